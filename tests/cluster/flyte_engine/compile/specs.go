package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/flyteorg/flyte/flyteidl/gen/pb-go/flyteidl/admin"
	"github.com/flyteorg/flyte/flyteidl/gen/pb-go/flyteidl/core"
)

// specs are the entities of one registration.
type specs struct {
	tasks       []*admin.TaskSpec
	workflows   []*admin.WorkflowSpec
	launchPlans []*admin.LaunchPlan
}

func read(path string) (*specs, error) {
	found := &specs{}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return found, found.unpack(path)
	}
	files, err := filepath.Glob(filepath.Join(path, "*.pb"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := found.add(file, data); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (s *specs) unpack(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	archive := tar.NewReader(unzipped)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := s.add(header.Name, data); err != nil {
			return err
		}
	}
}

// add reads one file; its name's last letter says what it holds. Other files, such as fast-registered code, are left alone.
func (s *specs) add(name string, data []byte) error {
	var into proto.Message
	switch {
	case strings.HasSuffix(name, "_1.pb"):
		task := &admin.TaskSpec{}
		s.tasks, into = append(s.tasks, task), task
	case strings.HasSuffix(name, "_2.pb"):
		workflow := &admin.WorkflowSpec{}
		s.workflows, into = append(s.workflows, workflow), workflow
	case strings.HasSuffix(name, "_3.pb"):
		plan := &admin.LaunchPlan{}
		s.launchPlans, into = append(s.launchPlans, plan), plan
	default:
		return nil
	}
	if err := proto.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// complete fills in what `pyflyte package` leaves to the registration, wherever an identifier stands.
func (s *specs) complete(project, domain, version string) error {
	var all []proto.Message
	for _, task := range s.tasks {
		all = append(all, task)
	}
	for _, workflow := range s.workflows {
		all = append(all, workflow)
	}
	for _, plan := range s.launchPlans {
		all = append(all, plan)
	}
	fill := func(values protopath.Values) error {
		message, ok := values.Index(-1).Value.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		if id, ok := message.Interface().(*core.Identifier); ok {
			id.Project, id.Domain, id.Version = or(id.Project, project), or(id.Domain, domain), or(id.Version, version)
		}
		return nil
	}
	for _, message := range all {
		if err := protorange.Range(message.ProtoReflect(), fill); err != nil {
			return err
		}
	}
	return nil
}

func or(value, other string) string {
	if value == "" {
		return other
	}
	return value
}

func (s *specs) workflow(name string) *admin.WorkflowSpec {
	for _, workflow := range s.workflows {
		if workflow.GetTemplate().GetId().GetName() == name {
			return workflow
		}
	}
	return nil
}

// defaulted adds the fixed and default inputs of the workflow's own launch plan to those given.
func (s *specs) defaulted(workflow *admin.WorkflowSpec, given *core.LiteralMap) *core.LiteralMap {
	all := &core.LiteralMap{Literals: map[string]*core.Literal{}}
	name := workflow.GetTemplate().GetId().GetName()
	for _, plan := range s.launchPlans {
		if plan.GetId().GetName() != name || plan.GetSpec().GetWorkflowId().GetName() != name {
			continue
		}
		for key, parameter := range plan.GetSpec().GetDefaultInputs().GetParameters() {
			if parameter.GetDefault() != nil {
				all.Literals[key] = parameter.GetDefault()
			}
		}
		for key, value := range plan.GetSpec().GetFixedInputs().GetLiterals() {
			all.Literals[key] = value
		}
	}
	for key, value := range given.GetLiterals() {
		all.Literals[key] = value
	}
	return all
}
