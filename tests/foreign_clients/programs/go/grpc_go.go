// The scenarios of tests/foreign_clients with grpc-go.
//
//	grpc_go ADDRESS FOLDER
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang/protobuf/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	limit    = 30 * time.Second
	detect   = "/mods.v1.InferenceService/Detect"
	forecast = "/mods.v1.InferenceService/Forecast"
	getModel = "/mods.v1.ModelService/GetModel"
	stream   = "/mods.v1.InferenceService/StreamDetect"
)

// rawBytes is a codec that leaves messages as they are.
type rawBytes struct{}

func (rawBytes) Marshal(value interface{}) ([]byte, error) { return *value.(*[]byte), nil }

func (rawBytes) Unmarshal(data []byte, value interface{}) error {
	*value.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func (rawBytes) Name() string { return "proto" }

// count is a scenario: its calls, and those that ended otherwise than they had to.
type count struct {
	Scenario string `json:"scenario"`
	Calls    int    `json:"calls"`
	Lost     int    `json:"lost"`
	Detail   string `json:"detail"`
}

func (c *count) add(loss string) {
	c.Calls++
	if loss != "" {
		if c.Lost == 0 {
			c.Detail = loss
		}
		c.Lost++
	}
}

type client struct {
	address, folder                                                 string
	small, smallAnswer, large, largeAnswer, missing, missingDetails []byte
	streamRequests, streamAnswers                                   [][]byte
	connection                                                      *grpc.ClientConn
}

func (c *client) read(name string) []byte {
	contents, err := os.ReadFile(filepath.Join(c.folder, name))
	if err != nil {
		panic(err)
	}
	return contents
}

// split splits messages, each after a zero byte and its length in four bytes.
func split(frames []byte) (messages [][]byte) {
	for len(frames) > 0 {
		end := 5 + binary.BigEndian.Uint32(frames[1:5])
		messages = append(messages, frames[5:end])
		frames = frames[end:]
	}
	return messages
}

func (c *client) dial(options ...grpc.DialOption) *grpc.ClientConn {
	options = append(options, grpc.WithInsecure(), grpc.WithDefaultCallOptions(grpc.ForceCodec(rawBytes{})))
	connection, err := grpc.Dial(c.address, options...)
	if err != nil {
		panic(err)
	}
	return connection
}

func call(ctx context.Context, connection *grpc.ClientConn, method string, request, expected []byte) string {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var answer []byte
	if err := connection.Invoke(ctx, method, &request, &answer); err != nil {
		return err.Error()
	}
	if !bytes.Equal(answer, expected) {
		return "another answer"
	}
	return ""
}

func (c *client) callSmall() string {
	return call(context.Background(), c.connection, detect, c.small, c.smallAnswer)
}

func (c *client) callLarge() string {
	return call(context.Background(), c.connection, forecast, c.large, c.largeAnswer)
}

func (c *client) callMissing(connection *grpc.ClientConn) string {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var answer []byte
	err := connection.Invoke(ctx, getModel, &c.missing, &answer)
	if status.Code(err) != codes.NotFound {
		return fmt.Sprint(err)
	}
	if details, _ := proto.Marshal(status.Convert(err).Proto()); !bytes.Equal(details, c.missingDetails) {
		return "other details"
	}
	return ""
}

// together calls functions at once, and returns their losses.
func together(calls ...func() string) []string {
	losses := make(chan string, len(calls))
	for _, function := range calls {
		go func(function func() string) { losses <- function() }(function)
	}
	all := make([]string, len(calls))
	for i := range all {
		all[i] = <-losses
	}
	return all
}

func repeat(times int, function func() string) []func() string {
	functions := make([]func() string, times)
	for i := range functions {
		functions[i] = function
	}
	return functions
}

func (c *client) addAll(scenario *count, calls ...func() string) {
	for _, loss := range together(calls...) {
		scenario.add(loss)
	}
}

func (c *client) unary(scenario *count) {
	for i := 0; i < 100; i++ {
		scenario.add(c.callSmall())
	}
}

func (c *client) errorDetails(scenario *count) {
	for i := 0; i < 20; i++ {
		scenario.add(c.callMissing(c.connection))
	}
}

func (c *client) open(ctx context.Context, connection *grpc.ClientConn, method string, first []byte, end bool) grpc.ClientStream {
	description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	opened, err := connection.NewStream(ctx, description, method)
	if err != nil {
		panic(err)
	}
	if err := opened.SendMsg(&first); err != nil && err != io.EOF {
		panic(err)
	}
	if end {
		opened.CloseSend()
	}
	return opened
}

func (c *client) deadlines(scenario *count) {
	silent := func() string {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		opened := c.open(ctx, c.connection, stream, c.streamRequests[0], false)
		for {
			var answer []byte
			if err := opened.RecvMsg(&answer); err != nil {
				if status.Code(err) == codes.DeadlineExceeded {
					return ""
				}
				return err.Error()
			}
		}
	}
	beside := func() string {
		for i := 0; i < 5; i++ {
			if loss := c.callSmall(); loss != "" {
				return loss
			}
		}
		return ""
	}
	c.addAll(scenario, append(repeat(10, silent), repeat(10, beside)...)...)
	c.addAll(scenario, repeat(10, c.callSmall)...)
}

func (c *client) cancelAtStart(scenario *count) {
	dropped := func() string {
		ctx, cancel := context.WithCancel(context.Background())
		opened := c.open(ctx, c.connection, detect, c.small, true)
		cancel()
		opened.RecvMsg(new([]byte))
		return ""
	}
	for round := 0; round < 15; round++ {
		go together(repeat(10, dropped)...)
		c.addAll(scenario, repeat(10, c.callSmall)...)
	}
}

func (c *client) cancelAnswers(scenario *count) {
	cut := func() string {
		ctx, cancel := context.WithCancel(context.Background())
		opened := c.open(ctx, c.connection, forecast, c.large, true)
		opened.Header()
		cancel()
		return ""
	}
	for round := 0; round < 3; round++ {
		go together(repeat(5, cut)...)
		c.addAll(scenario, append(repeat(5, c.callSmall), repeat(5, c.callLarge)...)...)
	}
}

func (c *client) largeAnswers(scenario *count) { c.addAll(scenario, repeat(20, c.callLarge)...) }

func (c *client) atOnce(scenario *count) { c.addAll(scenario, repeat(300, c.callSmall)...) }

func (c *client) metadata(scenario *count) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	pairs := []string{"x-all-bytes-bin", string(all), "x-empty-bin", ""}
	for i := 0; i < 60; i++ {
		pairs = append(pairs, fmt.Sprintf("x-key-%d", i), strings.Repeat("value ", 10)+fmt.Sprint(i))
	}
	for i := 0; i < 3; i++ {
		pairs = append(pairs, "x-twice", fmt.Sprintf("a, b;c=\"%d\"", i))
	}
	ctx := metadata.AppendToOutgoingContext(context.Background(), pairs...)
	for i := 0; i < 20; i++ {
		scenario.add(call(ctx, c.connection, detect, c.small, c.smallAnswer))
	}
}

func (c *client) stream(scenario *count) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	opened := c.open(ctx, c.connection, stream, c.streamRequests[0], false)
	var err error
	for i, expected := range c.streamAnswers {
		var answer []byte
		if err = opened.RecvMsg(&answer); err != nil {
			break
		}
		if i > 0 && !bytes.Equal(answer, expected) {
			scenario.add(fmt.Sprintf("answer %d differs", i))
		} else {
			scenario.add("")
		}
		for _, message := range c.streamRequests[1:] {
			if i == 0 {
				opened.SendMsg(&message)
			}
		}
	}
	if err == nil {
		opened.CloseSend()
		if err = opened.RecvMsg(new([]byte)); err == io.EOF {
			scenario.add("")
			return
		}
	}
	scenario.add(fmt.Sprint(err))
}

func (c *client) settings(scenario *count) {
	variants := map[string][]grpc.DialOption{
		"windows of 16 MiB":       {grpc.WithInitialWindowSize(16 << 20), grpc.WithInitialConnWindowSize(16 << 20)},
		"header lists up to 1000": {grpc.WithMaxHeaderListSize(1000)},
		"small buffers":           {grpc.WithWriteBufferSize(0), grpc.WithReadBufferSize(0)},
	}
	for name, options := range variants {
		other := c.dial(options...)
		say := func(loss string) {
			if loss != "" {
				loss = name + ": " + loss
			}
			scenario.add(loss)
		}
		for i := 0; i < 3; i++ {
			say(call(context.Background(), other, detect, c.small, c.smallAnswer))
			say(c.callMissing(other))
		}
		say(call(context.Background(), other, forecast, c.large, c.largeAnswer))
		other.Close()
	}
}

func (c *client) drain(scenario *count) {
	narrow := c.dial(grpc.WithInitialWindowSize(65_535)) // else the window grows by itself
	defer narrow.Close()
	opened := make([]grpc.ClientStream, 60)
	for i := range opened {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		opened[i] = c.open(ctx, narrow, forecast, c.large, true)
	}
	for _, one := range opened {
		one.Header()
	}
	fmt.Println(`{"scenario":"under_way"}`)
	os.Stdin.Read(make([]byte, 1))
	for _, one := range opened {
		var answer []byte
		err := one.RecvMsg(&answer)
		if err == nil {
			err = one.RecvMsg(new([]byte))
		}
		if err != io.EOF {
			scenario.add(fmt.Sprint(err))
		} else if !bytes.Equal(answer, c.largeAnswer) {
			scenario.add("another answer")
		} else {
			scenario.add("")
		}
	}
}

func main() {
	c := &client{address: os.Args[1], folder: os.Args[2]}
	c.small, c.smallAnswer = c.read("small.request"), c.read("small.answer")
	c.large, c.largeAnswer = c.read("large.request"), c.read("large.answer")
	c.missing, c.missingDetails = c.read("missing.request"), c.read("missing.details")
	c.streamRequests, c.streamAnswers = split(c.read("stream.requests")), split(c.read("stream.answers"))
	c.connection = c.dial()
	for _, scenario := range []struct {
		name string
		run  func(*count)
	}{
		{"unary", c.unary},
		{"error_details", c.errorDetails},
		{"deadlines", c.deadlines},
		{"cancel_at_start", c.cancelAtStart},
		{"cancel_answers", c.cancelAnswers},
		{"large_answers", c.largeAnswers},
		{"metadata", c.metadata},
		{"at_once", c.atOnce},
		{"stream", c.stream},
		{"settings", c.settings},
		{"drain", c.drain},
	} {
		counted := &count{Scenario: scenario.name}
		scenario.run(counted)
		line, _ := json.Marshal(counted)
		fmt.Println(string(line))
	}
	c.connection.Close()
}
