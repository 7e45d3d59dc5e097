// Command propeller is Flyte's engine: it watches FlyteWorkflow objects and runs their tasks as pods.
//
// It is flytepropeller's own controller without the profiling server, which would listen on all addresses, and with those
// plugins alone that Lehr's tasks need: a pod for a task, many for a map task, and a PyTorchJob for several machines.
package main

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	_ "github.com/flyteorg/flyte/flyteplugins/go/tasks/plugins/array/k8s"
	_ "github.com/flyteorg/flyte/flyteplugins/go/tasks/plugins/k8s/kfoperators/pytorch"
	_ "github.com/flyteorg/flyte/flyteplugins/go/tasks/plugins/k8s/pod"
	"github.com/flyteorg/flyte/flytepropeller/pkg/controller"
	settings "github.com/flyteorg/flyte/flytepropeller/pkg/controller/config"
	"github.com/flyteorg/flyte/flytepropeller/pkg/controller/executors"
	"github.com/flyteorg/flyte/flytepropeller/pkg/signals"
	"github.com/flyteorg/flyte/flytestdlib/config"
	"github.com/flyteorg/flyte/flytestdlib/config/viper"
	"github.com/flyteorg/flyte/flytestdlib/contextutils"
	"github.com/flyteorg/flyte/flytestdlib/promutils"
	"github.com/flyteorg/flyte/flytestdlib/promutils/labeled"
)

const allNamespaces = "all"

func run(file string) error {
	ctx := signals.SetupSignalHandler(context.Background())
	accessor := viper.NewAccessor(config.Options{StrictMode: true, SearchPaths: []string{file}})
	if err := accessor.UpdateConfig(ctx); err != nil {
		return err
	}
	cfg := settings.GetConfig()
	labeled.SetMetricKeys(contextutils.MetricKeysFromStrings(cfg.MetricKeys)...)
	scope := promutils.NewScope(cfg.MetricsPrefix).NewSubScope("propeller").NewSubScope(cfg.LimitNamespace)
	options := manager.Options{
		Cache:     cache.Options{SyncPeriod: &cfg.DownstreamEval.Duration},
		NewCache:  executors.NewCache,
		NewClient: executors.BuildNewClientFunc(scope),
		Metrics:   metricsserver.Options{BindAddress: "0"}, // none
	}
	manager, err := controller.CreateControllerManager(ctx, cfg, options)
	if err != nil {
		return err
	}
	group, both := errgroup.WithContext(ctx)
	group.Go(func() error { return controller.StartControllerManager(both, manager) })
	group.Go(func() error { return controller.StartController(both, cfg, allNamespaces, manager, &scope) })
	return group.Wait()
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: propeller CONFIG.yaml")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
