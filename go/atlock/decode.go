package atlock

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
	"github.com/runatlantis/atlantis/server/events/models"
)

// asEncodingJSON are encoding/json's rules (folded names, null, duplicates, unknown fields, invalid UTF-8) but one: a faulty
// text is noticed where it is faulty, not in a pass before. What is decoded by then is thrown away here, so that costs nothing
// and saves a third of the time. A time is read by its own method, which takes no escapes.
var asEncodingJSON = jsonv2.JoinOptions(
	jsonv1.DefaultOptionsV1(),
	jsonv1.ReportErrorsWithLegacySemantics(false),
	jsonv2.WithUnmarshalers(jsonv2.UnmarshalFunc(func(text []byte, into *time.Time) error { return into.UnmarshalJSON(text) })),
)

// decode reads JSON by encoding/json's rules, about three times as fast. On an error, what it left in into is not to be used. The
// error names a place and repeats nothing of the text, which may hold a token.
func decode(text []byte, into any) error {
	err := jsonv2.Unmarshal(text, into, asEncodingJSON)
	if err == nil {
		return nil
	}
	if fault, ok := errors.AsType[*jsonv2.SemanticError](err); ok {
		return fmt.Errorf("the JSON at %q, byte %d of %d, does not fit %v", fault.JSONPointer, fault.ByteOffset, len(text), fault.GoType)
	}
	return fmt.Errorf("%d bytes are not JSON", len(text))
}

// decodeLock reads a lock's JSON as decode does. Nearly all of them were written by json.Marshal of this very struct, with these
// fields in this order; those are read in a third of the time. Everything else, down to a space, is left to decode. The lock may share
// the text's memory.
func decodeLock(text string, lock *models.ProjectLock) error {
	if scanLock(text, lock) {
		return nil
	}
	*lock = models.ProjectLock{}
	return decode([]byte(text), lock)
}

// salvage reads into a struct what decode can read of its fields, each by itself, and leaves the others as they are.
func salvage(text []byte, into reflect.Value) {
	if value := reflect.New(into.Type()); decode(text, value.Interface()) == nil {
		into.Set(value.Elem())
		return
	}
	var members map[string]jsontext.Value
	if into.Kind() != reflect.Struct || decode(text, &members) != nil {
		return
	}
	for name, value := range members {
		if field := into.FieldByName(name); field.CanSet() {
			salvage(value, field)
		}
	}
}
