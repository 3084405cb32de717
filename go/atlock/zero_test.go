package atlock_test

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/atlock/atlock/go/atlock"
	"github.com/atlock/atlock/go/client"
)

// Nobody panics who has nil or a zero value: what can fail does, and says what to do.
func TestNilAndZeroValuesFail(t *testing.T) {
	for name, value := range map[string]any{
		"nil Database": (*atlock.Database)(nil), "zero Database": new(atlock.Database),
		"nil Client": (*client.Client)(nil), "zero Client": new(client.Client),
		"nil Following": (*client.Following)(nil), "zero Following": new(client.Following),
	} {
		t.Run(name, func(t *testing.T) {
			failing := callAll(t, reflect.ValueOf(value))
			if _, follows := value.(*client.Following); !follows && failing < 30 {
				t.Errorf("only %d methods can fail", failing)
			}
		})
	}
	for name, database := range map[string]*atlock.Database{"nil": nil, "zero": new(atlock.Database)} {
		t.Run("lockers of a "+name+" Database", func(t *testing.T) {
			callAll(t, reflect.ValueOf(database.Enhanced()))
			callAll(t, reflect.ValueOf(database.For(lockOf("a", 1).Pull)))
		})
	}
	var none *client.Listing
	none.Free()
}

// callAll calls every method with zero values, and a key for each text. All that return an error must fail, as closed or for an argument; it returns how many did.
func callAll(t *testing.T, value reflect.Value) (failing int) {
	t.Helper()
	for i := range value.NumMethod() {
		name, method := value.Type().Method(i).Name, value.Method(i)
		arguments := make([]reflect.Value, 0, method.Type().NumIn())
		for n := range method.Type().NumIn() {
			if method.Type().IsVariadic() && n == method.Type().NumIn()-1 {
				break
			}
			argument := reflect.Zero(method.Type().In(n))
			switch {
			case argument.Type() == reflect.TypeFor[context.Context]():
				argument = reflect.ValueOf(atlock.WithPull(t.Context(), lockOf("a", 1).Pull))
			case argument.Kind() == reflect.String: // it may be a key
				argument = reflect.ValueOf("acme/infra/a/default/").Convert(argument.Type())
			}
			arguments = append(arguments, argument)
		}
		results := method.Call(arguments)
		if len(results) == 0 || method.Type().Out(len(results)-1) != reflect.TypeFor[error]() {
			continue
		}
		err, _ := results[len(results)-1].Interface().(error)
		_, isFollowing := value.Interface().(*client.Following)
		if !isFollowing && !errors.Is(err, atlock.ErrClosed) && !errors.Is(err, atlock.ErrInvalidArgument) && !errors.Is(err, atlock.ErrNoPull) {
			t.Errorf("%s of %s: %v", name, value.Type(), err)
		}
		failing++
	}
	return failing
}

// Options that are nil, or have nil, are as none.
func TestNilOptions(t *testing.T) {
	database, err := atlock.Open(settings("sled", "strict", t.TempDir(), ""), nil, atlock.WithLogger(nil), atlock.WithLegacy(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	locks, err := client.Open(settings("sled", "strict", t.TempDir(), ""), nil, client.WithHost(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer locks.Close()
}
