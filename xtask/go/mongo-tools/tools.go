//go:build tools

// Package tools names the commands that are built from this module, so that go.mod and go.sum hold what they need.
package tools

import (
	_ "github.com/mongodb/mongo-tools/mongodump/main"
	_ "github.com/mongodb/mongo-tools/mongorestore/main"
)
