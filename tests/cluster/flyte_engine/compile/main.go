// Command compile turns serialised Flyte entities into the FlyteWorkflow object that the engine runs, as flyteadmin would.
//
// It reads what `pyflyte package` writes, or a folder of such files (NAME_1.pb a TaskSpec, NAME_2.pb a WorkflowSpec, NAME_3.pb a
// LaunchPlan), and prints the object as JSON. An identifier without project, domain or version gets those of the execution;
// inputs that are not given get the launch plan's defaults. With -closure it prints what the compiler made of the workflow, a
// serialised CompiledWorkflowClosure, and needs no execution; without a workflow it compiles the tasks alone and prints nothing.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/flyteorg/flyte/flyteidl/gen/pb-go/flyteidl/admin"
	"github.com/flyteorg/flyte/flyteidl/gen/pb-go/flyteidl/core"
	"github.com/flyteorg/flyte/flytepropeller/pkg/apis/flyteworkflow/v1alpha1"
	"github.com/flyteorg/flyte/flytepropeller/pkg/compiler"
	"github.com/flyteorg/flyte/flytepropeller/pkg/compiler/common"
	"github.com/flyteorg/flyte/flytepropeller/pkg/compiler/transformers/k8s"
)

const kind = "FlyteWorkflow" // the engine's own constant is in lower case, which the API server does not know

type request struct {
	specs, workflow, inputs                     string
	project, domain, version, execution, output string
	parallel                                    uint
	closure                                     bool
}

func parse() request {
	var r request
	flag.StringVar(&r.specs, "specs", "", "archive of `pyflyte package`, or a folder with its files")
	flag.StringVar(&r.workflow, "workflow", "", "the workflow's name")
	flag.StringVar(&r.inputs, "inputs", "", "file with a serialised LiteralMap; none: the launch plan's defaults")
	flag.StringVar(&r.project, "project", "", "project of the execution; the namespace is PROJECT-DOMAIN")
	flag.StringVar(&r.domain, "domain", "", "domain of the execution")
	flag.StringVar(&r.version, "version", "v1", "version of entities that have none")
	flag.StringVar(&r.execution, "execution", "", "the execution's name")
	flag.StringVar(&r.output, "raw-output", "", "prefix for the tasks' raw data; none: the engine's own")
	flag.UintVar(&r.parallel, "max-parallelism", 0, "at most so many nodes at a time; 0: no limit")
	flag.BoolVar(&r.closure, "closure", false, "compile only, and print the compiled workflow as protobuf")
	flag.Parse()
	return r
}

func (r request) check() error {
	needed := map[string]string{"specs": r.specs, "project": r.project, "domain": r.domain}
	if !r.closure {
		needed["workflow"], needed["execution"] = r.workflow, r.execution
	}
	for name, value := range needed {
		if value == "" {
			return fmt.Errorf("-%s is missing", name)
		}
	}
	return nil
}

// compile returns the compiled workflow, nil if none is named, beside what it was made of.
func compile(r request) (*core.CompiledWorkflowClosure, *specs, error) {
	found, err := read(r.specs)
	if err != nil {
		return nil, nil, err
	}
	if err := found.complete(r.project, r.domain, r.version); err != nil {
		return nil, nil, err
	}
	tasks := make([]*core.CompiledTask, 0, len(found.tasks))
	for _, task := range found.tasks {
		compiled, err := compiler.CompileTask(task.GetTemplate())
		if err != nil {
			return nil, nil, err
		}
		tasks = append(tasks, compiled)
	}
	if r.workflow == "" {
		return nil, found, nil
	}
	workflow := found.workflow(r.workflow)
	if workflow == nil {
		return nil, nil, fmt.Errorf("no workflow %q in %s", r.workflow, r.specs)
	}
	closure, err := compiler.CompileWorkflow(
		workflow.GetTemplate(), workflow.GetSubWorkflows(), tasks, []common.InterfaceProvider{})
	return closure, found, err
}

func inputs(path string) (*core.LiteralMap, error) {
	given := &core.LiteralMap{}
	if path == "" {
		return given, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return given, proto.Unmarshal(data, given)
}

func build(r request, closure *core.CompiledWorkflowClosure, given *core.LiteralMap) (*v1alpha1.FlyteWorkflow, error) {
	execution := &core.WorkflowExecutionIdentifier{Project: r.project, Domain: r.domain, Name: r.execution}
	object, err := k8s.BuildFlyteWorkflow(closure, given, execution, r.project+"-"+r.domain)
	if err != nil {
		return nil, err
	}
	object.Kind = kind
	object.ExecutionID = v1alpha1.WorkflowExecutionIdentifier{WorkflowExecutionIdentifier: execution}
	// As flyteadmin: with an older version the pods of a map task have the names of other nodes' pods.
	object.WorkflowMeta = &v1alpha1.WorkflowMeta{EventVersion: v1alpha1.EventVersion2}
	object.ExecutionConfig.MaxParallelism = uint32(r.parallel)
	object.RawOutputDataConfig = v1alpha1.RawOutputDataConfig{
		RawOutputDataConfig: &admin.RawOutputDataConfig{OutputLocationPrefix: r.output},
	}
	return object, nil
}

func write(r request, closure *core.CompiledWorkflowClosure, found *specs) error {
	if r.closure {
		data, err := proto.Marshal(closure)
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(data)
		return err
	}
	given, err := inputs(r.inputs)
	if err != nil {
		return err
	}
	object, err := build(r, closure, found.defaulted(found.workflow(r.workflow), given))
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(object)
}

func main() {
	r := parse()
	if err := r.check(); err != nil {
		fail(2, err)
	}
	closure, found, err := compile(r)
	if err == nil {
		err = write(r, closure, found)
	}
	if err != nil {
		fail(1, err)
	}
}

func fail(code int, err error) {
	fmt.Fprintln(os.Stderr, errors.Join(errors.New("error: compile"), err))
	os.Exit(code)
}
