package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/client/backup"
)

func newRestore(o *options) *cobra.Command {
	r := backup.RestoreOptions{}
	cmd := &cobra.Command{
		Use:   "restore DIR [--topic NAME]... [--as NEWNAME] [--replicas N] [--renumber]",
		Short: "Create the topics of a backup and append their records",
		Long: `Create the topics of a backup in this cluster, with their partitions and settings, and append their records,
each once. Keys, values, headers, timestamps and offsets are what they were.

The whole backup is checked first. A topic that is there already is refused, unless an earlier restore of the
same backup made it: then what is in it is compared, and the rest appended. So a restore that was interrupted
goes on with the same command.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := cmd.Flags()
			switch {
			case f.Changed("as") && len(r.Topics) != 1:
				return usage(errors.New("--as is a name for one topic: say which with --topic"))
			case f.Changed("as") && r.As == "":
				return usage(errors.New("--as must not be empty"))
			case f.Changed("replicas") && r.Replicas == 0:
				return usage(errors.New("--replicas must be at least 1"))
			}
			c, err := o.open()
			if err != nil {
				return err
			}
			var progress backup.Progress
			began := time.Now()
			done := showProgress(cmd.ErrOrStderr(), &progress)
			r.Dir, r.Timeout, r.Progress = args[0], o.timeout, &progress
			restored, err := backup.Restore(cmd.Context(), c, r)
			done()
			if err = errors.Join(err, c.Close()); err != nil {
				sayUnfinished(cmd.ErrOrStderr(), restored)
				return err
			}
			saySpeed(cmd.ErrOrStderr(), "restored", progress.State(), began)
			return printRestored(o, cmd, restored)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&r.Topics, "topic", nil, "only this topic; may be given several times (default: all in the backup)")
	f.StringVar(&r.As, "as", "", "restore the topic that --topic names under this name")
	f.Uint32Var(&r.Replicas, "replicas", 0, "replicas of each partition (default: as many as there were)")
	f.BoolVar(&r.Renumber, "renumber", false, "let partitions whose first records had gone begin at offset 0")
	return cmd
}

// sayUnfinished tells what an unfinished restore leaves behind.
func sayUnfinished(out io.Writer, restored []backup.Restored) {
	if len(restored) == 0 {
		return
	}
	const toldMax = 5
	names := ""
	for i, r := range restored {
		if i == toldMax {
			names += fmt.Sprintf(" and %d more", len(restored)-toldMax)
			break
		}
		names += " " + r.As
	}
	fmt.Fprintf(out, "not all is restored. The same command goes on; mrctl topic delete undoes it. In the cluster:%s\n", names)
}

func printRestored(o *options, cmd *cobra.Command, restored []backup.Restored) error {
	type renumberedView struct {
		Partition uint32 `json:"partition"`
		By        int64  `json:"by"`
	}
	type view struct {
		Topic      string           `json:"topic"`
		As         string           `json:"as"`
		ID         uint64           `json:"id"`
		Partitions int              `json:"partitions"`
		Records    int64            `json:"records"`
		WereThere  int64            `json:"were_there"`
		Renumbered []renumberedView `json:"renumbered"`
	}
	views := []view{}
	for _, r := range restored {
		v := view{r.Topic.Name, r.As, r.ID, len(r.Topic.Partitions), r.Records, r.WereThere, []renumberedView{}}
		for _, p := range r.Renumbered {
			v.Renumbered = append(v.Renumbered, renumberedView(p))
			fmt.Fprintf(cmd.ErrOrStderr(), "%s/%d begins at offset 0 now: every offset is %d less than it was\n", r.As, p.Partition, p.By)
		}
		views = append(views, v)
	}
	return o.print(cmd.OutOrStdout(), views, func(w io.Writer) {
		fmt.Fprintln(w, "TOPIC\tRESTORED-AS\tPARTITIONS\tRECORDS\tWERE-THERE")
		for _, v := range views {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\n", v.Topic, v.As, v.Partitions, v.Records, v.WereThere)
		}
	})
}
