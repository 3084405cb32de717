package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/runatlantis/atlantis/server"

	"github.com/atlock/atlock/go/atlock"
)

const (
	configFile = "locking.yaml" // in Atlantis's data folder
	dataFolder = "atlock"       // there, too: the default of locking.data_dir

	dbTypeBoltDB = "boltdb"
	dbTypeRedis  = "redis"

	enhancedPrefix = "ATLANTIS_ENHANCED_LOCKING_"
	shadowPrefix   = "ATLANTIS_LOCKING_SHADOW_"
)

// variables override settings outside of the blocks `enhanced` and `shadow`. Atlantis has variables of its own with the same prefix.
var variables = []string{
	"ATLANTIS_LOCKING_BACKEND", "ATLANTIS_LOCKING_DATA_DIR", "ATLANTIS_LOCKING_TIMEOUT",
	"ATLANTIS_LOCKING_KEY_FORMAT", "ATLANTIS_LOCKING_SOCKET", "ATLANTIS_LOCKING_AUDIT_FILE", "ATLANTIS_LOCKING_AUDIT_MAX_BYTES", "ATLANTIS_LOCKING_AUDIT_KEEP",
	"ATLANTIS_LOCKING_AUDIT_STDOUT", "ATLANTIS_LOCKING_AUDIT_REQUIRED",
	"ATLANTIS_LOCKING_ENCRYPTION_KEY_FILE", "ATLANTIS_LOCKING_ENCRYPTION_KEY_ENV", "ATLANTIS_LOCKING_ENCRYPTION_KEY_COMMAND",
}

// loadSettings reads atlock's settings: from a file, if one is named or is in the data folder, and from the environment. Nil
// without an error means that there are none, and that locking is stock Atlantis's.
func loadSettings(file string, user server.UserConfig, environment []string) (*atlock.Config, error) {
	file = settingsFile(file, user)
	if file == "" && !slices.ContainsFunc(environment, isSetting) {
		return nil, nil
	}
	config, err := atlock.LoadConfigOver(defaults(user), file)
	if err != nil {
		return nil, err
	}
	if err := check(config, user); err != nil {
		return nil, err
	}
	if user.LockingDBType == dbTypeRedis && config.Mode() != atlock.ModeStrict {
		// The local store beside Redis is the embedded one: a BoltDB file that lies there is from before Redis, and its
		// locks are old.
		config.Locking.Backend = atlock.BackendSled
	}
	return &config, nil
}

// settingsFile is the file that was named, or the one in the data folder; empty if there is none.
func settingsFile(named string, user server.UserConfig) string {
	if named != "" {
		return named
	}
	inDataDir := filepath.Join(user.DataDir, configFile)
	if _, err := os.Stat(inDataDir); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return inDataDir // if it cannot be read, reading it says so
}

// distrust tells why a settings file is not to be believed without a word, for a person; empty if nothing is wrong with it. inDataDir: it was
// not named, but found in Atlantis's data folder. Whatever runs as this user, terraform code of a pull request among it, can write there: a file
// that such code leaves would at the next start send all locks to its own Redis, or run its own key_command.
func distrust(file string, inDataDir bool) string {
	found, err := os.Stat(file)
	if err != nil {
		return "" // reading it says so
	}
	owner, us := found.Sys().(*syscall.Stat_t).Uid, uint32(os.Geteuid())
	switch {
	case owner != us && owner != 0:
		return fmt.Sprintf("%s belongs to user %d, who may change it, and this server runs as user %d: `chown` it", file, owner, us)
	case found.Mode().Perm()&0o022 != 0:
		return fmt.Sprintf("%s may be written by others (mode %04o): `chmod go-w` it", file, found.Mode().Perm())
	case inDataDir && us != 0 && owner == us:
		return fmt.Sprintf("%s is believed although whatever runs as this user may have written it, terraform code of a pull request among it: "+
			"let root own it, or put it where this user cannot write, and name it by --%s", file, configFlag)
	}
	return ""
}

func isSetting(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return strings.HasPrefix(name, enhancedPrefix) || strings.HasPrefix(name, shadowPrefix) || slices.Contains(variables, name)
}

// defaults are what Atlantis's own flags say.
func defaults(user server.UserConfig) atlock.Config {
	redis := atlock.Redis{
		Username: redisUsername(user),
		Password: atlock.Secret(user.RedisPassword),
		DB:       user.RedisDB,
		TLS:      atlock.TLS{Enabled: user.RedisTLSEnabled},
	}
	if nodes := clusterAddresses(user); len(nodes) > 0 {
		redis.ClusterMode, redis.Addresses = true, nodes
	} else {
		host := user.RedisHost
		if host == "" {
			host = "127.0.0.1"
		}
		redis.Address = net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(user.RedisPort))
	}
	return atlock.Config{Locking: atlock.Locking{
		DataDir:  filepath.Join(user.DataDir, dataFolder),
		Enhanced: atlock.Enhanced{Redis: redis},
	}}
}

func clusterAddresses(user server.UserConfig) []string {
	var nodes []string
	for node := range strings.SplitSeq(redisClusterAddresses(user), ",") {
		if node = strings.TrimSpace(node); node != "" {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// check refuses flags of Atlantis that atlock would have to ignore.
func check(config atlock.Config, user server.UserConfig) error {
	if user.LockingDBType != dbTypeBoltDB && user.LockingDBType != dbTypeRedis {
		return fmt.Errorf("--locking-db-type is %q: with locking settings it must be %s or %s, the store of stock Atlantis",
			user.LockingDBType, dbTypeBoltDB, dbTypeRedis)
	}
	if user.LockingDBType == dbTypeRedis && config.Mode() == atlock.ModeStrict && config.Locking.Backend == atlock.BackendSled {
		return errors.New("--locking-db-type is redis, and locking.backend is sled in strict mode: the embedded store would not know " +
			"what stock Atlantis holds in Redis, and grant it again. Remove locking.backend, and strict mode is Atlantis's own Redis " +
			"code; or set --locking-db-type=boltdb if nothing is held in Redis that the embedded store in locking.data_dir lacks")
	}
	tls := config.Locking.Enhanced.Redis.TLS
	if config.Mode() != atlock.ModeStrict && user.RedisInsecureSkipVerify && tls.Enabled && tls.CAFile == "" {
		return errors.New("--redis-insecure-skip-verify is set, but atlock always checks the certificate of Redis: name the " +
			"certificate authority to trust in locking.enhanced.redis.tls.ca_file, or remove the flag if the system trusts it")
	}
	return nil
}
