package events

// AtlockProjectRunner is what plans and applies each project of a plan's runner, inside of its wrappers. Newer releases show it.
func AtlockProjectRunner(plan *PlanCommandRunner) any {
	var runner any = plan.prjCmdRunner
	for {
		switch wrapper := runner.(type) {
		case *InstrumentedProjectCommandRunner:
			runner = wrapper.projectCommandRunner
		case *ProjectOutputWrapper:
			runner = wrapper.ProjectCommandRunner
		default:
			return runner
		}
	}
}
