package githost

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// mainBranch is the branch that pull requests are merged into.
const mainBranch = "main"

// repository is a bare git repository in a folder.
type repository struct{ folder string }

// createRepository makes the folder, with the files as its first commit on the main branch.
func createRepository(ctx context.Context, folder string, files map[string]string) (repository, error) {
	r := repository{folder: folder}
	if _, err := runGit(ctx, nil, "init", "--quiet", "--bare", "--initial-branch="+mainBranch, folder); err != nil {
		return r, err
	}
	// Atlantis fetches single commits when it updates a clone.
	if _, err := r.git(ctx, nil, "config", "uploadpack.allowAnySHA1InWant", "true"); err != nil {
		return r, err
	}
	_, err := r.commit(ctx, mainBranch, "", "the first commit", files)
	return r, err
}

// commit puts a commit with these files onto the branch and returns its hash. A branch that is not there begins at the commit
// `from`, or with nothing if that is empty.
func (r repository) commit(ctx context.Context, branch, from, message string, files map[string]string) (string, error) {
	var stream bytes.Buffer
	fmt.Fprintf(&stream, "commit refs/heads/%s\n", branch)
	fmt.Fprintf(&stream, "committer githost <githost@localhost> now\n")
	writeData(&stream, message)
	if from != "" {
		fmt.Fprintf(&stream, "from %s\n", from)
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if !filepath.IsLocal(file) || strings.ContainsAny(file, "\n\"") {
			return "", fmt.Errorf("%w: %q is no path of a file in a repository", ErrBadRequest, file)
		}
		fmt.Fprintf(&stream, "M 100644 inline %s\n", path.Clean(file))
		writeData(&stream, files[file])
	}
	if _, err := r.git(ctx, &stream, "fast-import", "--quiet", "--date-format=now"); err != nil {
		return "", err
	}
	return r.resolve(ctx, branch)
}

func writeData(stream *bytes.Buffer, content string) {
	fmt.Fprintf(stream, "data %d\n%s\n", len(content), content)
}

// resolve returns the hash of a branch's newest commit.
func (r repository) resolve(ctx context.Context, branch string) (string, error) {
	return r.git(ctx, nil, "rev-parse", "--verify", "refs/heads/"+branch)
}

// changedFiles lists what differs between the main branch, where they parted, and the commit.
func (r repository) changedFiles(ctx context.Context, commit string) ([]string, error) {
	out, err := r.git(ctx, nil, "diff", "--name-only", "-z", mainBranch+"..."+commit)
	return names(out), err
}

// names splits what git prints with -z.
func names(out string) []string {
	return strings.FieldsFunc(out, func(r rune) bool { return r == 0 })
}

// merge puts a merge commit of the commit onto the main branch.
func (r repository) merge(ctx context.Context, commit, message string) error {
	tree, err := r.git(ctx, nil, "merge-tree", "--write-tree", mainBranch, commit)
	if err != nil {
		return fmt.Errorf("%w: the pull request conflicts with %s; push a commit that resolves it: %w", ErrBadRequest, mainBranch, err)
	}
	merged, err := r.git(ctx, nil, "-c", "user.name=githost", "-c", "user.email=githost@localhost",
		"commit-tree", tree, "-p", mainBranch, "-p", commit, "-m", message)
	if err != nil {
		return err
	}
	_, err = r.git(ctx, nil, "update-ref", "refs/heads/"+mainBranch, merged)
	return err
}

// projects lists the folders of the main branch that have a file of Terraform's.
func (r repository) projects(ctx context.Context) ([]string, error) {
	out, err := r.git(ctx, nil, "ls-tree", "-r", "--name-only", "-z", mainBranch)
	if err != nil {
		return nil, err
	}
	var folders []string
	for _, file := range names(out) {
		if path.Ext(file) == ".tf" && !slices.Contains(folders, path.Dir(file)) {
			folders = append(folders, path.Dir(file))
		}
	}
	return folders, nil
}

// read returns a file of a branch or commit, and false if there is none.
func (r repository) read(ctx context.Context, ref, file string) (string, bool) {
	cmd := exec.CommandContext(ctx, "git", "--git-dir", r.folder, "cat-file", "blob", ref+":"+file)
	out, err := cmd.Output()
	return string(out), err == nil
}

func (r repository) git(ctx context.Context, input *bytes.Buffer, arguments ...string) (string, error) {
	return runGit(ctx, input, append([]string{"--git-dir", r.folder}, arguments...)...)
}

// runGit returns what git prints, without the line's end.
func runGit(ctx context.Context, input *bytes.Buffer, arguments ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", arguments...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if input != nil {
		cmd.Stdin = input
	}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(complaint.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// gitBackend serves all repositories below the folder, to read only.
func gitBackend(folder string) (http.Handler, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, fmt.Errorf("the program git is needed (Debian: apt-get install git): %w", err)
	}
	programs, err := runGit(context.Background(), nil, "--exec-path")
	if err != nil {
		return nil, err
	}
	program := filepath.Join(programs, "git-http-backend")
	if _, err := exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("git has no http-backend, which serves the repositories; install git in full: %w", err)
	}
	return &cgi.Handler{Path: program, Env: []string{"GIT_PROJECT_ROOT=" + folder, "GIT_HTTP_EXPORT_ALL=1"}}, nil
}
