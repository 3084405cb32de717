package client

import (
	"bytes"
	"encoding/json"
	"errors"
)

// FencingToken is what a holder of a lock shows where something is done under the lock. It is larger than the token of every earlier
// holder of the same lock, so that whoever guards a thing can refuse a token that is smaller than one that was shown before.
// docs/reliability.md ("Whose clock") says what that order rests on where several servers grant.
type FencingToken uint64

// NoToken is where there is no token: a stock server took the lock, or the lock was refused.
const NoToken FencingToken = 0

// Grant is the answer to an attempt to take a lock.
type Grant struct {
	Acquired bool            // whether the lock was free, and is the caller's now
	Token    FencingToken    // of the caller; NoToken if the lock was not acquired
	Holder   json.RawMessage // the lock that is in the way; nil if the lock was acquired
}

// decodeGrant reads the library's answer.
func decodeGrant(answer []byte) (Grant, error) {
	// A holder's lock is not read here, only cut out: its reader looks at each byte anyway.
	if lock, ok := bytes.CutPrefix(answer, []byte(`{"acquired":false,"lock":`)); ok && len(lock) > len("}") {
		return Grant{Holder: bytes.Clone(lock[:len(lock)-1])}, nil
	}
	var reply struct {
		Acquired bool         `json:"acquired"`
		Token    FencingToken `json:"token"`
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return Grant{}, err
	}
	if !reply.Acquired {
		return Grant{}, errors.New("the library refused a lock without telling the holder")
	}
	return Grant{Acquired: true, Token: reply.Token}, nil
}
