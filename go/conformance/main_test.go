package conformance

import (
	"os"
	"testing"
)

// openers are those of second processes.
var openers = map[string]Opener{
	stockRedisOpener:  openStockRedis,
	nativeOpener:      openNative,
	nativeAloneOpener: openNativeAlone,
	nativeQueueOpener: openNativeQueue,
}

func TestMain(m *testing.M) { os.Exit(Main(m, openers)) }
