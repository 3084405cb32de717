package conformance

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	os.Exit(Main(m, map[string]Opener{
		stockRedisOpener:  openStockRedis,
		atomicRedisOpener: openAtomicRedis,
		nativeOpener:      openNative,
		nativeAloneOpener: openNativeAlone,
		nativeQueueOpener: openNativeQueue,
	}))
}
