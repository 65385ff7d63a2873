package main

import "context"

func check(context.Context, *program, []string) error          { return nil }
func status(context.Context, *program, []string) error         { return nil }
func offsetsCommand(context.Context, *program, []string) error { return nil }
