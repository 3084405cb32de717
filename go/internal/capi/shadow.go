package capi

// #include <atlock.h>
import "C"

// Shadow is the shadow of a store that is not the library's. Its methods may be called from any goroutine at once, but for Free.
type Shadow struct{ handle *C.atlock_shadow }

// OpenShadow begins the shadow that the settings, as JSON, name; isRedis: whose store is their `locking.enhanced.redis`.
func OpenShadow(config []byte, isRedis bool) (*Shadow, error) {
	s, redis := new(Shadow), C.int32_t(0)
	if isRedis {
		redis = 1
	}
	err := check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_shadow_open(data(config), C.size_t(len(config)), redis, &s.handle, failure)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Begin tells that an operation begins, and returns its number.
func (s *Shadow) Begin(asked []byte) (uint64, error) {
	var number C.uint64_t
	err := check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_shadow_begin(s.handle, data(asked), C.size_t(len(asked)), &number, failure)
	})
	return uint64(number), err
}

// End tells how it has ended.
func (s *Shadow) End(number uint64, answer []byte) error {
	return check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_shadow_end(s.handle, C.uint64_t(number), data(answer), C.size_t(len(answer)), failure)
	})
}

// Status reads how it stands.
func (s *Shadow) Status() (Buffer, error) {
	var out Buffer
	err := check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_shadow_status(s.handle, &out.buffer, failure)
	})
	return out, err
}

// Metrics reads its metrics, without the end line.
func (s *Shadow) Metrics() (Buffer, error) {
	var out Buffer
	err := check(func(failure *C.atlock_buffer) C.int32_t {
		return C.atlock_shadow_metrics(s.handle, &out.buffer, failure)
	})
	return out, err
}

// Free ends it. Nobody else may use it meanwhile or later.
func (s *Shadow) Free() { C.atlock_shadow_free(s.handle) }
