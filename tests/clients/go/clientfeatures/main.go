// Command clientfeatures does all that clientv3 and its packages can do. tests/clients/clients.py says what
// it is told and what it says.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"trivet.test/clients/internal/harness"
)

const partTimeout = 60 * time.Second

var (
	addresses = strings.Split(os.Getenv("ENDPOINTS"), ",")
	secure    = os.Getenv("CA") != ""
	answers   = bufio.NewReader(os.Stdin)
)

// part is one check: it panics through must() and equal().
type part struct {
	name string
	run  func(ctx context.Context, c *clientv3.Client)
}

func config() clientv3.Config {
	cfg := clientv3.Config{Endpoints: addresses, DialTimeout: 5 * time.Second,
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second}
	if secure {
		pem, err := os.ReadFile(os.Getenv("CA"))
		must(err)
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		cfg.TLS = &tls.Config{RootCAs: pool}
		cfg.Username, cfg.Password = os.Getenv("USER"), os.Getenv("PASSWORD")
	}
	return cfg
}

func connect(change func(*clientv3.Config)) *clientv3.Client {
	cfg := config()
	if change != nil {
		change(&cfg)
	}
	return harness.Connect(cfg)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func need[T any](value T, err error) T {
	must(err)
	return value
}

func equal(got, want any) {
	if !reflect.DeepEqual(got, want) {
		panic(fmt.Errorf("got %.300s, want %.300s", fmt.Sprint(got), fmt.Sprint(want)))
	}
}

// refused checks that an error is there and says so.
func refused(err error, text string) {
	if err == nil || !strings.Contains(err.Error(), text) {
		panic(fmt.Errorf("got error %v, want %q", err, text))
	}
}

// within takes one value from a channel.
func within[T any](ch <-chan T) T {
	select {
	case value := <-ch:
		return value
	case <-time.After(20 * time.Second):
		panic(errors.New("nothing came within 20 s"))
	}
}

// until tries again until a call succeeds.
func until(what string, call func() bool) {
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if call() {
			return
		}
	}
	panic(fmt.Errorf("never %s", what))
}

// order has a member killed or started.
func order(text string) {
	fmt.Println(text)
	answer := need(answers.ReadString('\n'))
	equal(answer, "done\n")
}

func check(c *clientv3.Client, p part) {
	ctx, cancel := context.WithTimeout(context.Background(), partTimeout)
	defer cancel()
	defer func() {
		if why := recover(); why != nil {
			fmt.Printf("FAILED %s: %s\n", p.name, strings.Join(strings.Fields(fmt.Sprint(why)), " "))
			return
		}
		fmt.Printf("ok %s\n", p.name)
	}()
	p.run(ctx, c)
}

func main() {
	c := connect(nil)
	for _, parts := range [][]part{kvParts, concurrencyParts, wrapperParts, adminParts, failoverParts} {
		for _, p := range parts {
			check(c, p)
		}
	}
	_ = c.Close()
}
