//go:build !atlantis_before_v0_46

package atlock

import (
	"strings"
	"time"

	"github.com/runatlantis/atlantis/server/events/models"
)

// scanLock reads a lock that json.Marshal wrote. False: it is something else, and lock is not to be used. The lock's strings
// share the text's memory.
func scanLock(text string, lock *models.ProjectLock) bool {
	s := scanner{rest: text, ok: true}
	s.expect(`{"Project":{"ProjectName":`)
	lock.Project.ProjectName = s.string()
	s.expect(`,"RepoFullName":`)
	lock.Project.RepoFullName = s.string()
	s.expect(`,"Path":`)
	lock.Project.Path = s.string()
	s.expect(`},"Pull":{"Num":`)
	s.pull(&lock.Pull)
	s.expect(`},"User":{"Username":`)
	lock.User.Username = s.string()
	s.expect(`,"Teams":`)
	lock.User.Teams = s.strings()
	s.expect(`},"Workspace":`)
	lock.Workspace = s.string()
	s.expect(`,"Time":`)
	lock.Time = s.time()
	s.expect(`}`)
	return s.ok && s.rest == ""
}

func (s *scanner) pull(pull *models.PullRequest) {
	pull.Num = s.int()
	s.expect(`,"HeadCommit":`)
	pull.HeadCommit = s.string()
	s.expect(`,"URL":`)
	pull.URL = s.string()
	s.expect(`,"HeadBranch":`)
	pull.HeadBranch = s.string()
	s.expect(`,"BaseBranch":`)
	pull.BaseBranch = s.string()
	s.expect(`,"HardenedNonPRRefCheckout":`)
	pull.HardenedNonPRRefCheckout = s.bool()
	s.expect(`,"Author":`)
	pull.Author = s.string()
	s.expect(`,"Body":`)
	pull.Body = s.string()
	s.expect(`,"State":`)
	pull.State = models.PullRequestState(s.int())
	s.expect(`,"BaseRepo":{"FullName":`)
	s.repo(&pull.BaseRepo)
	s.expect(`}`)
}

func (s *scanner) repo(repo *models.Repo) {
	repo.FullName = s.string()
	s.expect(`,"Owner":`)
	repo.Owner = s.string()
	s.expect(`,"Name":`)
	repo.Name = s.string()
	s.expect(`,"CloneURL":`)
	repo.CloneURL = s.string()
	s.expect(`,"SanitizedCloneURL":`)
	repo.SanitizedCloneURL = s.string()
	s.expect(`,"VCSHost":{"Hostname":`)
	repo.VCSHost.Hostname = s.string()
	s.expect(`,"Type":`)
	repo.VCSHost.Type = models.VCSHostType(s.int())
	s.expect(`}`)
}

// scanner reads JSON of a known shape. Once something is not as expected it is no longer ok, and reads nothing more.
type scanner struct {
	rest string
	ok   bool
}

func (s *scanner) expect(text string) {
	if s.ok = s.ok && strings.HasPrefix(s.rest, text); s.ok {
		s.rest = s.rest[len(text):]
	}
}

// quoted reads a string up to its closing quote, and returns it with the quotes; plain tells that it stands for itself.
func (s *scanner) quoted() (text string, plain bool) {
	if s.expect(`"`); !s.ok {
		return "", false
	}
	plain = true
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			// The opening quote is the byte before rest.
			text, s.rest = s.rest[:i], s.rest[i+1:]
			return text, plain
		case c == '\\':
			plain = false
			i++
		case c < ' ' || c >= 0x80:
			// Control characters are no JSON, and other letters may be no UTF-8: not for here.
			s.ok = false
			return "", false
		}
	}
	s.ok = false
	return "", false
}

func (s *scanner) string() string {
	text, plain := s.quoted()
	if !s.ok || plain {
		return text
	}
	return s.unescape(text)
}

// escapes are what json.Marshal writes for single letters, but for the rare ones.
var escapes = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n", `\r`, "\r", `\t`, "\t", `\u003c`, "<", `\u003e`, ">", `\u0026`, "&")

func (s *scanner) unescape(text string) string {
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		i++ // quoted saw a letter behind each backslash
		switch text[i] {
		case '\\', '"', 'n', 'r', 't':
		case 'u':
			if code := text[i+1 : min(i+5, len(text))]; code != "003c" && code != "003e" && code != "0026" {
				s.ok = false
				return ""
			}
		default:
			s.ok = false
			return ""
		}
	}
	return escapes.Replace(text)
}

// int reads a whole number that fits.
func (s *scanner) int() int {
	digits := 0
	for digits < len(s.rest) && '0' <= s.rest[digits] && s.rest[digits] <= '9' {
		digits++
	}
	const most = 18 // digits that an int64 holds whatever they are
	if s.ok = s.ok && 0 < digits && digits <= most && (digits == 1 || s.rest[0] != '0'); !s.ok {
		return 0
	}
	number := 0
	for _, digit := range []byte(s.rest[:digits]) {
		number = 10*number + int(digit-'0')
	}
	s.rest = s.rest[digits:]
	return number
}

func (s *scanner) bool() bool {
	if s.ok && strings.HasPrefix(s.rest, "true") {
		s.expect("true")
		return true
	}
	s.expect("false")
	return false
}

// strings reads null, or an array of strings.
func (s *scanner) strings() []string {
	if s.ok && strings.HasPrefix(s.rest, "null") {
		s.expect("null")
		return nil
	}
	s.expect("[")
	list := []string{}
	for s.ok && !strings.HasPrefix(s.rest, "]") {
		if len(list) > 0 {
			s.expect(",")
		}
		list = append(list, s.string())
	}
	s.expect("]")
	return list
}

func (s *scanner) time() (moment time.Time) {
	text, plain := s.quoted()
	if !s.ok || !plain {
		s.ok = false
		return moment
	}
	s.ok = moment.UnmarshalJSON([]byte(`"`+text+`"`)) == nil
	return moment
}
