package client

// LockInfo is what is known of a lock beside its value. It is zero where nothing is: there is no such lock, or the store keeps
// nothing of this.
type LockInfo struct {
	Token FencingToken `json:"token,omitempty"` // the holder's; NoToken for a lock that a stock server took
	Store string       `json:"store,omitempty"` // legacy, enhanced (Redis), both, or pending: asked of Redis, and its answer is not known
}
