// Package recordbatch is the form in which records travel and are stored: Kafka's record batch, format 2.
//
//	bytes  field                       covered by the CRC
//	 0- 7  base offset                 no: the partition sets it when a batch is read
//	 8-11  length of what follows      no
//	12-15  partition leader epoch      no: set likewise, to the Raft term
//	16     magic, always 2             no
//	17-20  CRC32C of bytes 21..        -
//	21-22  attributes (compression)    yes
//	23-26  last offset delta           yes
//	27-42  first and max timestamp     yes
//	43-56  producer id, epoch, base sequence  yes
//	57-60  number of records           yes
//	61-    records                     yes
//
// Because offsets are outside the CRC, a state machine gives a batch its offsets without touching a record,
// and what a client checks when it reads is the checksum that the producer computed.
//
// Three depths of looking: ParseHeader reads the 61 bytes and allocates nothing (apply does this); Validate
// adds the checksum and each record (the node that admits a batch does this); Decode returns the records.
//
// It does not compress or decompress: Validate and Decode refuse a compressed batch with ErrCompressed,
// ParseHeader lets it pass. It knows no topics, offsets in use or producers' states, and it keeps nothing.
//
// The codec is written by hand although kmsg (franz-go) has one: kmsg takes the records of a batch as bytes
// that are already encoded, and a record's length as a number that the caller has already computed. The
// tests hold both against each other.
package recordbatch
