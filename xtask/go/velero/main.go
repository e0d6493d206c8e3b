// Velero's own command, and beside it a plugin that stores objects in MinIO: one program under two names, because each of
// the two alone would link the same packages. For tests only: no release of Velero is built like this.
package main

import (
	"os"
	"path/filepath"

	"github.com/vmware-tanzu/velero/pkg/cmd"
	"github.com/vmware-tanzu/velero/pkg/cmd/velero"
	"github.com/vmware-tanzu/velero/pkg/plugin/framework"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// pluginName is the file name under which Velero's server finds this program in its folder of plugins.
const pluginName = "object-store"

func main() {
	name := filepath.Base(os.Args[0])
	if name == pluginName {
		framework.NewServer().RegisterObjectStore("velero.io/aws", newObjectStore).Serve()
		return
	}
	// The controllers' own metrics: no flag sets it, and the default is port 8080 of every interface.
	server.DefaultBindAddress = "0"
	cmd.CheckError(velero.NewCommand(name).Execute())
}
