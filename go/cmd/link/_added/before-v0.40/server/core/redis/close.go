package redis

// Close closes the connections.
func (r *RedisDB) Close() error { return r.client.Close() }
