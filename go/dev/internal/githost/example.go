package githost

// ExampleProjects are the folders with Terraform code of an example repository: three, so that several locks can be held.
var ExampleProjects = []string{"app", "database", "network"}

// ExampleFiles are the first files of an example repository.
func ExampleFiles() map[string]string {
	files := map[string]string{"README.md": "An example of a repository with Terraform code.\n"}
	for _, project := range ExampleProjects {
		files[project+"/main.tf"] = "resource \"null_resource\" \"" + project + "\" {}\n"
	}
	return files
}
