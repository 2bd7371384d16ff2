package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/client/backup"
)

func newBackup(o *options) *cobra.Command {
	var topics []string
	var incremental bool
	cmd := &cobra.Command{
		Use:   "backup DIR [--topic NAME]... [--incremental]",
		Short: "Copy topics into a folder, or check a folder with a backup",
		Long: `Copy topics, with all their records and settings, into a folder. The cluster works on meanwhile.

DIR must not exist, or be empty. With --incremental it may hold a backup of the same cluster: what is new is
added. Each partition is copied up to the end that it has when its turn comes. When the backup fails or is
interrupted, what it wrote is removed, and an older backup in DIR stays what it was.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.open()
			if err != nil {
				return err
			}
			var progress backup.Progress
			began := time.Now()
			done := showProgress(cmd.ErrOrStderr(), &progress)
			res, err := backup.Backup(cmd.Context(), c, backup.Options{Dir: args[0], Topics: topics, Incremental: incremental,
				Timeout: o.timeout, Progress: &progress})
			done()
			if err = errors.Join(err, c.Close()); err != nil {
				return err
			}
			saySpeed(cmd.ErrOrStderr(), "backed up", progress.State(), began)
			return printBackup(o, cmd, args[0], res)
		},
	}
	cmd.Flags().StringArrayVar(&topics, "topic", nil, "only this topic; may be given several times (default: all)")
	cmd.Flags().BoolVar(&incremental, "incremental", false, "add what is new to the backup in DIR, if there is one")
	cmd.AddCommand(newBackupVerify(o), newBackupShow(o))
	return cmd
}

// backupView is a backup for those who asked; the lists are of what is in DIR now.
type backupView struct {
	Dir     string            `json:"dir"`
	ID      string            `json:"backup_id"`
	Cluster string            `json:"cluster_id"`
	Began   time.Time         `json:"began"`
	Ended   time.Time         `json:"ended"`
	Topics  []backupTopicView `json:"topics"`
}

type backupTopicView struct {
	Name       string `json:"name"`
	ID         uint64 `json:"id"`
	Partitions int    `json:"partitions"`
	Records    int64  `json:"records"`
	Bytes      int64  `json:"bytes"`
}

func viewOf(dir string, m *backup.Manifest) backupView {
	v := backupView{Dir: dir, ID: m.ID, Cluster: m.Cluster, Began: m.Began, Ended: m.Ended, Topics: []backupTopicView{}}
	for i := range m.Topics {
		t := &m.Topics[i]
		v.Topics = append(v.Topics, backupTopicView{t.Name, t.ID, len(t.Partitions), t.Records(), t.Bytes()})
	}
	return v
}

func printBackup(o *options, cmd *cobra.Command, dir string, res *backup.Result) error {
	for _, n := range res.Notes {
		fmt.Fprintln(cmd.ErrOrStderr(), n)
	}
	type topicAdded struct {
		backupTopicView
		NewRecords int64 `json:"new_records"`
		NewBytes   int64 `json:"new_bytes"`
	}
	v := struct {
		backupView
		Topics []topicAdded `json:"topics"`
		Notes  []string     `json:"notes"`
	}{viewOf(dir, res.Manifest), []topicAdded{}, orEmpty(res.Notes)}
	for _, t := range v.backupView.Topics {
		added := res.Added[t.ID]
		v.Topics = append(v.Topics, topicAdded{t, added.Records, added.Bytes})
	}
	return o.print(cmd.OutOrStdout(), v, func(w io.Writer) {
		fmt.Fprintln(w, "TOPIC\tPARTITIONS\tRECORDS\tBYTES\tNEW-RECORDS\tNEW-BYTES")
		for _, t := range v.Topics {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\n", t.Name, t.Partitions, t.Records, t.Bytes, t.NewRecords, t.NewBytes)
		}
	})
}

func newBackupVerify(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "verify DIR",
		Short: "Check every file of a backup, without a cluster; exit 1 when something is wrong",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			var progress backup.Progress
			done := showProgress(cmd.ErrOrStderr(), &progress)
			m, problems, err := backup.Verify(cmd.Context(), args[0], &progress)
			done()
			if err != nil {
				return err
			}
			v := struct {
				OK       bool     `json:"ok"`
				Problems []string `json:"problems"`
				backupView
			}{len(problems) == 0, []string{}, viewOf(args[0], m)}
			for _, p := range problems {
				v.Problems = append(v.Problems, p.Error())
			}
			err = o.print(cmd.OutOrStdout(), v, func(w io.Writer) {
				if v.OK {
					fmt.Fprintln(w, "TOPIC\tPARTITIONS\tRECORDS\tBYTES\tSTATUS")
					for _, t := range v.Topics {
						fmt.Fprintf(w, "%s\t%d\t%d\t%d\tOK\n", t.Name, t.Partitions, t.Records, t.Bytes)
					}
				}
				for _, p := range v.Problems {
					fmt.Fprintln(w, p)
				}
			})
			if err == nil && !v.OK {
				err = fmt.Errorf("%s: %w: problems: %d", args[0], backup.ErrDamaged, len(problems))
			}
			return err
		},
	}
}

func newBackupShow(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "show DIR",
		Short: "Show what a backup has in it, without checking its files",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			m, err := backup.Load(args[0])
			if err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), m, func(w io.Writer) {
				fmt.Fprintf(w, "CLUSTER\t%s\nBACKUP\t%s\nBEGAN\t%s\nENDED\t%s\n\n", m.Cluster, m.ID, m.Began.Format(time.RFC3339), m.Ended.Format(time.RFC3339))
				fmt.Fprintln(w, "TOPIC\tPARTITION\tSTART-OFFSET\tEND-OFFSET\tBYTES\tREPLICAS\tRETENTION\tRETENTION-BYTES")
				for i := range m.Topics {
					t := &m.Topics[i]
					for j := range t.Partitions {
						p := &t.Partitions[j]
						fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", t.Name, p.Partition, p.Start, p.End, p.Bytes(), t.Replicas,
							ageText(t.RetentionMillis), sizeText(t.RetentionBytes))
					}
				}
			})
		},
	}
}

// showProgress says how far it is, once a second. What it returns ends that.
func showProgress(out io.Writer, p *backup.Progress) (done func()) {
	var last backup.State
	at := time.Now()
	return repeat(progressInterval, func() {
		s, now := p.State(), time.Now()
		if s.Phase != last.Phase {
			last = backup.State{Phase: s.Phase}
		}
		if s.Phase != "" {
			fmt.Fprintf(out, "%s: %d of %d partitions, %d records, %s, %.1f MB/s\n", s.Phase, s.Partitions, s.PartitionsAll, s.Records,
				doneText(s), float64(s.Bytes-last.Bytes)/1e6/now.Sub(at).Seconds())
		}
		last, at = s, now
	})
}

func doneText(s backup.State) string {
	if s.BytesTotal > 0 {
		return fmt.Sprintf("%.1f of %.1f MB", float64(s.Bytes)/1e6, float64(s.BytesTotal)/1e6)
	}
	return fmt.Sprintf("%.1f MB", float64(s.Bytes)/1e6)
}

// saySpeed sums up what is done.
func saySpeed(out io.Writer, what string, s backup.State, began time.Time) {
	took := time.Since(began)
	fmt.Fprintf(out, "%s %d records, %.1f MB, in %v: %.1f MB/s\n", what, s.Records, float64(s.Bytes)/1e6, took.Round(time.Millisecond), float64(s.Bytes)/1e6/took.Seconds())
}
