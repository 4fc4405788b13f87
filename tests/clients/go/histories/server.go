package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const startTimeout = 20 * time.Second

// A server is a process that is etcd or takes its flags, a cluster of one, in a folder of its own.
type server struct {
	binary, dir string
	more        []string // flags
	port, peer  int
	process     *exec.Cmd
	log         *os.File
}

func newServer(binary, dir string, more []string) (*server, error) {
	s := &server{binary: binary, dir: dir, more: more}
	var err error
	if err = os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	if s.peer, err = freePort(); err != nil {
		return nil, err
	}
	return s, s.start()
}

const portMin, portMax = 10000, 30000 // no connection gets one of these by itself while a server restarts

// freePort finds one that no other server of ours has had.
func freePort() (int, error) {
	for n := 0; n < 1000; n++ {
		port := portMin + int(nextPort.Add(1))%(portMax-portMin)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return port, nil
		}
	}
	return 0, errors.New("no free port")
}

var nextPort atomic.Int64

func init() {
	nextPort.Store(rand.Int63n(portMax - portMin))
}

func (s *server) start() error {
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", s.port), fmt.Sprintf("http://127.0.0.1:%d", s.peer)
	s.process = exec.Command(s.binary, append([]string{"--name", "n", "--data-dir", filepath.Join(s.dir, "data"),
		"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "n=" + peer}, s.more...)...)
	s.process.Stdout, s.process.Stderr = s.log, s.log
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.process.Start(); err != nil {
		return err
	}
	return s.waitUntilServing()
}

func (s *server) waitUntilServing() error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		// With a leader, and whatever else is said: permission is not our business here.
		answer, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(true))
		if err == nil && answer.Leader != 0 || err != nil && ctx.Err() == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not serve; see %s", s.binary, s.log.Name())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *server) connect() (*grpc.ClientConn, error) {
	return grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", s.port),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
}

// hasEnded says whether it ended by itself, soon after a connection to it was lost.
func (s *server) hasEnded() bool {
	for n := 0; n < 50; n++ {
		var status syscall.WaitStatus
		if pid, err := syscall.Wait4(s.process.Process.Pid, &status, syscall.WNOHANG, nil); err != nil || pid != 0 {
			return true
		}
		time.Sleep(2 * time.Millisecond)
	}
	return false
}

// stop ends the process; one that has ended by itself is an error.
func (s *server) stop(hard bool) error {
	signal := syscall.SIGTERM
	if hard {
		signal = syscall.SIGKILL
	}
	if err := s.process.Process.Signal(signal); err != nil {
		return fmt.Errorf("%s had ended; see %s", s.binary, s.log.Name())
	}
	err := s.process.Wait()
	if status, ok := s.process.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() &&
		status.Signal() != signal {
		return fmt.Errorf("%s: %v; see %s", s.binary, err, s.log.Name())
	}
	return nil
}
