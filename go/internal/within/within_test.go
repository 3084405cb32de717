package within_test

import (
	"context"
	"errors"
	"testing"

	"github.com/atlock/atlock/go/internal/within"
)

type opened struct{ closed chan struct{} }

func (o opened) Close() error { close(o.closed); return nil }

func TestAnAnswerComesThrough(t *testing.T) {
	answer, err := within.Ask(t.Context(), func() (int, error) { return 7, errors.ErrUnsupported })
	if answer != 7 || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%d, %v", answer, err)
	}
	open := opened{make(chan struct{})}
	if got, err := within.Open(t.Context(), func() (opened, error) { return open, nil }); got != open || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	select {
	case <-open.closed:
		t.Error("what was handed over is closed")
	default:
	}
}

func TestADoneContextEndsTheWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	open, begun, goOn := opened{make(chan struct{})}, make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		_, err := within.Open(ctx, func() (opened, error) {
			close(begun)
			<-goOn
			return open, nil
		})
		ended <- err
	}()
	<-begun
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(goOn)
	<-open.closed // what nobody waits for any more

	asked := false
	if _, err := within.Ask(ctx, func() (int, error) { asked = true; return 0, nil }); !errors.Is(err, context.Canceled) || asked {
		t.Errorf("%v, asked %t", err, asked)
	}
}
