package main

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	callTimeout     = 20 * time.Second
	blockingTimeout = 200 * time.Millisecond
	settleTime      = 200 * time.Millisecond // for what a server does after a call was given up, at least
	settleTimeout   = 10 * time.Second
)

// A side is one of the two servers, and what was done there.
type side struct {
	server  *server
	conn    *grpc.ClientConn
	tokens  [identities]string
	streams map[int]*watchStream
}

func newSide(s *server) (*side, error) {
	conn, err := s.connect()
	if err != nil {
		return nil, err
	}
	d := &side{server: s, conn: conn, streams: map[int]*watchStream{}}
	d.tokens[identityGarbage] = "abcdefghijklmnop.7"
	return d, nil
}

func (d *side) close() {
	for n := range d.streams {
		d.closeStream(n)
	}
	d.conn.Close()
}

func (d *side) restart(hard bool) error {
	d.close()
	if err := d.server.stop(hard); err != nil {
		return err
	}
	if err := d.server.start(); err != nil {
		return err
	}
	var err error
	d.conn, err = d.server.connect()
	return err
}

func (d *side) context(timeout time.Duration, identity int) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	if d.tokens[identity] != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "token", d.tokens[identity])
	}
	return ctx, cancel
}

// call makes one call; the answers of one that streams come together.
func (d *side) call(s *step, request proto.Message) ([]proto.Message, error) {
	m := methods[s.Method]
	timeout := callTimeout
	if m.blocks {
		timeout = blockingTimeout
	}
	ctx, cancel := d.context(timeout, s.Identity)
	defer cancel()
	if m.serverStreams {
		return d.callStream(ctx, s.Method, m, request)
	}
	answer := m.answer()
	if err := d.conn.Invoke(ctx, "/"+s.Method, request, answer); err != nil {
		return nil, err
	}
	return []proto.Message{answer}, nil
}

// revision is the store's; 0 when the server does not say.
func (d *side) revision() int64 {
	ctx, cancel := d.context(callTimeout, identityRoot)
	defer cancel()
	answer, err := pb.NewKVClient(d.conn).Range(ctx, &pb.RangeRequest{Key: []byte("zz/sync"), CountOnly: true})
	if err != nil {
		return 0
	}
	return answer.Header.Revision
}

func (d *side) callStream(ctx context.Context, name string, m method, request proto.Message) ([]proto.Message, error) {
	stream, err := d.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: m.clientStreams},
		"/"+name)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !m.clientStreams {
		_ = stream.CloseSend()
	}
	var answers []proto.Message
	for {
		answer := m.answer()
		if err := stream.RecvMsg(answer); errors.Is(err, io.EOF) {
			return answers, nil
		} else if err != nil {
			return answers, err
		}
		answers = append(answers, answer)
		if m.clientStreams { // one request, one answer
			_ = stream.CloseSend()
			return answers, nil
		}
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte{}, data...)
	return nil
}
func (rawCodec) Name() string { return "proto" }

func (d *side) callRaw(s *step) ([]proto.Message, error) {
	ctx, cancel := d.context(callTimeout, s.Identity)
	defer cancel()
	var data []byte
	if err := d.conn.Invoke(ctx, "/"+s.Method, &s.Message, &data, grpc.ForceCodec(rawCodec{})); err != nil {
		return nil, err
	}
	answer := methods[s.Method].answer()
	if err := proto.Unmarshal(data, answer); err != nil {
		return nil, err
	}
	return []proto.Message{answer}, nil
}

func (d *side) login(s *step, request proto.Message) ([]proto.Message, error) {
	d.tokens[s.Identity] = ""
	answers, err := d.call(&step{Method: s.Method}, request)
	if err == nil {
		d.tokens[s.Identity] = answers[0].(*pb.AuthenticateResponse).Token
	}
	return answers, err
}
