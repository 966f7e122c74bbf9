package stage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// reads is the program that a zygote's interpreter is started with: it runs what comes by its
// socket first, internal/instances/zygote.py.
const reads = "import os; exec(os.read(3, 1 << 17))"

// pythons are names of interpreters.
var pythons = regexp.MustCompile(`^python(3(\.[0-9]+)?)?$`)

// maxInterpreterLine is how much of a file is looked at for its interpreter, as the kernel does
// (BINPRM_BUF_SIZE, execve(2)).
const maxInterpreterLine = 256

// errForeign means that a command is nothing that a zygote can be made of.
var errForeign = errors.New("is no Python interpreter, and no script of one")

// interpreted says how to start the interpreter that a command is run by as a zygote: the command
// is one, or a script that begins with one.
func interpreted(path string, command []string) (interpreter string, argv []string, err error) {
	if pythons.MatchString(filepath.Base(path)) {
		options, program, err := program(command[1:])
		if err != nil {
			return "", nil, fmt.Errorf("command %q: %w", command[0], err)
		}
		return path, zygoteArgs(command[0], options, program), nil
	}
	words, err := interpreterLine(path)
	if err != nil {
		return "", nil, fmt.Errorf("command %q: %w", command[0], err)
	}
	if len(words) > 1 && filepath.Base(words[0]) == "env" {
		words = words[1:]
		if words[0] == "-S" {
			words = words[1:]
		}
	}
	if len(words) == 0 || !pythons.MatchString(filepath.Base(words[0])) {
		return "", nil, fmt.Errorf("command %q %w", command[0], errForeign)
	}
	if interpreter, err = look(words[0]); err != nil {
		return "", nil, err
	}
	options, program, err := program(append(words[1:], append([]string{path}, command[1:]...)...))
	if err != nil {
		return "", nil, fmt.Errorf("command %q: %w", command[0], err)
	}
	return interpreter, zygoteArgs(words[0], options, program), nil
}

// zygoteArgs are the arguments of the interpreter, by which it can be told what it runs.
func zygoteArgs(name string, options, program []string) []string {
	return append(append(append([]string{name}, options...), "-c", reads), program...)
}

// interpreterLine are the words behind #! of a file.
func interpreterLine(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errForeign // it can be run, and not be read
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxInterpreterLine))
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	rest, ok := strings.CutPrefix(string(line), "#!")
	if !ok {
		return nil, nil
	}
	return strings.Fields(rest), nil
}

// program splits arguments of an interpreter into its options, and what it runs: its kind, as
// zygote.py has it, the script, module or code, and its arguments.
func program(args []string) (options, program []string, err error) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "-" || arg == "--help" || arg == "--version":
			return nil, nil, fmt.Errorf("%q runs no program that a zygote could", arg)
		case !strings.HasPrefix(arg, "-"):
			return options, append([]string{"script"}, args[i:]...), nil
		}
		at := strings.IndexAny(arg, "cmXW") // these have a value, behind them or in the next argument
		flags := arg[1:]
		if at > 0 {
			flags = arg[1:at]
		}
		if bad := strings.Trim(flags, "bBdEIOPqRsSuv"); bad != "" {
			return nil, nil, fmt.Errorf("option %q of the interpreter: a zygote cannot have it", arg)
		}
		if at < 0 {
			options = append(options, arg)
			continue
		}
		value := arg[at+1:]
		if value == "" {
			if i++; i == len(args) {
				return nil, nil, fmt.Errorf("option %q of the interpreter has no value", arg)
			}
			value = args[i]
		}
		if flags != "" {
			options = append(options, "-"+flags)
		}
		if kind := "-" + arg[at:at+1]; kind == "-c" || kind == "-m" {
			return options, append([]string{kind, value}, args[i+1:]...), nil
		} else {
			options = append(options, kind, value)
		}
	}
	return nil, nil, errors.New("it runs no program")
}
