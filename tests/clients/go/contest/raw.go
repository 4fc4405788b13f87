package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

// Messages are bytes here: put together and taken apart field by field.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (rawCodec) Name() string { return "proto" }

// A msg is a message under construction.
type msg []byte

func (m msg) num(field protowire.Number, v int64) msg {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), uint64(v))
}

func (m msg) str(field protowire.Number, v string) msg {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), []byte(v))
}

// fields of a message: the last number and the last bytes of each.
type fields struct {
	num map[protowire.Number]int64
	str map[protowire.Number]string
}

func parse(b []byte) fields {
	f := fields{map[protowire.Number]int64{}, map[protowire.Number]string{}}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return f
		}
		b = b[n:]
		switch kind {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return f
			}
			f.num[number], b = int64(v), b[n:]
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return f
			}
			f.str[number], b = string(v), b[n:]
		case protowire.Fixed64Type:
			_, n := protowire.ConsumeFixed64(b)
			if n < 0 {
				return f
			}
			b = b[n:]
		default:
			return f
		}
	}
	return f
}

func (f fields) in(number protowire.Number) fields { return parse([]byte(f.str[number])) }

func invoke(ctx context.Context, conn *grpc.ClientConn, method string, request []byte) (fields, error) {
	var reply []byte
	err := conn.Invoke(ctx, method, &request, &reply, grpc.ForceCodec(rawCodec{}))
	return parse(reply), err
}

func (s *side) call(method string, request msg) (fields, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return invoke(ctx, s.conn, method, request)
}

// A header as it may be compared: ids and term are each cluster's own.
func header(f fields) string {
	h := f.in(1)
	return fmt.Sprintf("rev=%d member=%v cluster=%v term=%v", h.num[3], h.num[2] != 0, h.num[1] != 0, h.num[4] > 0)
}
