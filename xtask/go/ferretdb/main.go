// FerretDB with SQLite behind it: a server for tests that speaks MongoDB's protocol.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: ferretdb ADDRESS FOLDER")
		os.Exit(2)
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}

// serve answers on a TCP address, or on a Unix socket when the address is a path, until SIGINT or SIGTERM. It keeps each
// database in a file in the folder.
func serve(address, folder string) error {
	listener := ferretdb.ListenerConfig{TCP: address}
	if strings.HasPrefix(address, "/") {
		listener = ferretdb.ListenerConfig{Unix: address}
	}
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  listener,
		Handler:   "sqlite",
		SQLiteURL: "file:" + folder + "/",
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return server.Run(ctx)
}
