package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/multiraftd/multiraftd/node"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Check a configuration, or show it with where each value comes from", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.ErrOrStderr())
			if err := cmd.Help(); err != nil {
				return err
			}
			return &node.UsageError{Faults: []string{"config needs a command: check or show"}}
		},
	}
	cmd.AddCommand(configCheckCommand(), configShowCommand())
	return cmd
}

func configCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Say everything that is wrong with a configuration; exits with 2 when something is",
		Long: "Say everything that is wrong with a configuration, all at once and with the place of each. It takes what start\n" +
			"takes: the file, the environment and flags. Nothing is opened but the file.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, _, err := loadConfig(cmd.Flags(), io.Discard); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return err
		},
	}
	defineStartFlags(cmd.Flags())
	return cmd
}

func configShowCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show --config FILE",
		Short: "Print every setting as it counts, and where its value comes from",
		Long: "Print every setting as it counts, and where its value comes from: a flag, else the environment, else the file, else\n" +
			"the default. It prints what there is even when something is wrong with it, and then says what, and exits with 2.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return &node.UsageError{Faults: []string{fmt.Sprintf("-o is text or json, not %q", output)}}
			}
			e, _ := gather(cmd.Flags())
			if err := e.print(cmd.OutOrStdout(), output == "json"); err != nil {
				return err
			}
			_, _, err := loadConfig(cmd.Flags(), io.Discard)
			return err
		},
	}
	defineStartFlags(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// shownSetting is one line of `config show`.
type shownSetting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	From  string `json:"from"`
}

func (e effective) print(w io.Writer, asJSON bool) error {
	var all []shownSetting
	for _, s := range allSettings {
		all = append(all, shownSetting{s.name, e[s.name].text, e[s.name].from})
	}
	if asJSON {
		return json.NewEncoder(w).Encode(all)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tVALUE\tFROM")
	for _, s := range all {
		text := s.Value
		if text == "" {
			text = `""`
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", s.Key, text, s.From)
	}
	return t.Flush()
}
