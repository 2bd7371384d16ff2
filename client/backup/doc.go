// Package backup copies the records of a cluster into a folder, checks such folders, and appends what is in them to a
// cluster.
//
//	Backup    topics --Reader.NextBatch--> segments, then the manifest
//	Verify    manifest, segments: is everything there as it was written
//	Restore   Verify, then topics under a request id of the backup, segments --Producer.AppendBatch--> partitions
//
// # The folder
//
//	manifest.json                                   what is in the backup; written last, renamed into place
//	topic-7/00003-00000000000000001200.batches      topic id, partition, offset of the first record
//
// A segment is record batches (Kafka's format 2) as the partition stores them, one after the other, without a gap in
// their offsets: nothing around them, nothing decoded. Each batch has a checksum of its own, which does not cover its
// offset; each segment has a SHA-256 in the manifest, and the manifest has its own. A folder without a manifest is no
// backup, whatever else is in it: so one that was cut short is never taken for a whole one, and adding to a backup
// leaves the old one whole until the new manifest takes the place of the old.
//
// Every partition is copied from its log start to the linearizable end that it has when its turn comes. Partitions
// are not copied at one instant: between them there is no order, as there is none between their records.
//
// # Restoring
//
// Records come back with their keys, values, headers, timestamps and offsets. They are appended by a producer of the
// restore, whose ids and sequences replace those of the producers that wrote them, which belong to another cluster
// or topic. So a change of leaders or a lost answer stores nothing twice. Small batches are joined: a record is the
// same in whatever batch, and a million batches of one record take as many entries of the log. Every acknowledgement
// must name the offset that the record had, else something else appends to the topic, and the restore says so.
//
// A topic is created under a request id made of the backup's id, the topic's and the name. So a restore that was cut
// short finds its own topics again, and nobody else's: it compares all that is in them with the backup, and goes on
// behind it.
//
// Offsets begin at 0 in a new topic, and nothing makes them begin elsewhere. A partition whose first records had gone
// when it was copied can only be restored under other offsets, which Renumber allows.
//
// # Hostile folders
//
// A folder may come from anywhere. Names of files are made from numbers, never taken from the manifest; they are opened
// below the folder, whatever links are in it, and only if they are plain files. A manifest is read up to a limit, and
// a batch if its length fits the rest of its file. The manifest must be, byte for byte, what this package writes.
//
// It does not encrypt, compress, move backups elsewhere, delete old ones, or copy what is not records: nodes,
// placement, producers' sessions.
package backup
