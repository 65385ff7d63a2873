package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"tidemark/internal/cdc"
)

// version is set by the linker.
var version = "development"

// command is one subcommand.
type command struct {
	name, args, does string
	run              func(ctx context.Context, p *program, args []string) error
	more             string // what help says beyond the line
}

// program is what every command gets: the outside world.
type program struct {
	in       io.Reader // for secrets that a command is given; nil: none
	out, err io.Writer
	env      func(string) (string, bool)
	terminal bool             // out is one: colours, bars, text instead of JSON
	hangup   <-chan os.Signal // SIGHUP: run reads the connections again; nil: run listens itself
}

// errUsage ends the program with exit code 2, after what was wrong.
var errUsage = errors.New("usage")

// failure is a verdict that was printed already: exit code 1 and not a word more.
var errVerdict = errors.New("the verdict is printed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := &program{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.LookupEnv, terminal: isTerminal(os.Stdout)}
	code := p.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// main runs a command and decides the exit code: 0 done, 1 failed, 2 called wrongly.
func (p *program) main(ctx context.Context, args []string) int {
	err := p.dispatch(ctx, args)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errVerdict):
		return 1
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintln(p.err, "connector:", err)
		return 2
	default:
		p.explain(err)
		return 1
	}
}

// explain prints an error for a person: what happened where, and on a line of its own what to do.
func (p *program) explain(err error) {
	var e *cdc.Error
	if !errors.As(err, &e) {
		fmt.Fprintln(p.err, "connector:", err)
		return
	}
	hint := cdc.Hint(err)
	bare := *e
	bare.Hint = ""
	fmt.Fprintln(p.err, "connector:", bare.Error())
	if hint != "" {
		fmt.Fprintln(p.err, "  → "+hint)
	}
}

func (p *program) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		p.welcome()
		return nil
	}
	name := args[0]
	switch name {
	case "-h", "-help", "--help":
		name = "help"
	case "-v", "-version", "--version":
		name = "version"
	}
	for _, c := range commands() {
		if c.name == name {
			return c.run(ctx, p, args[1:])
		}
	}
	return fmt.Errorf("%w: there is no command %q%s; `connector help` lists them", errUsage, name, nearest(name, names()))
}

// flags returns the flag set of a command; its help names the arguments.
func (p *program) flags(name, args string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(p.err)
	f.Usage = func() {
		fmt.Fprintf(p.err, "usage: connector %s %s\n", name, args)
		f.PrintDefaults()
	}
	return f
}

// parse parses a command's flags; they may stand before and after its arguments.
func parse(f *flag.FlagSet, args []string, most int) ([]string, error) {
	var rest []string
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		if f.NArg() == 0 {
			break
		}
		rest = append(rest, f.Arg(0))
		args = f.Args()[1:]
	}
	if len(rest) > most {
		return nil, fmt.Errorf("%w: %q is one argument too many", errUsage, rest[most])
	}
	return rest, nil
}

func isTerminal(f *os.File) bool {
	i, err := f.Stat()
	return err == nil && i.Mode()&os.ModeCharDevice != 0
}
