// SPDX-FileCopyrightText: vmfork.vsphere contributors
// SPDX-License-Identifier: GPL-3.0-or-later

// The protocol between the simulator, its supervisor and the guests' inits. One
// socket connects two of them. For a request, a side opens a conversation: a
// new pair of sockets, one end of which is passed to the other side. So
// conversations run in parallel without numbers to match, and can carry open
// files.

package guest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFrame limits a message; a guestinfo value of 1 MB fits many times.
const maxFrame = 64 << 20

// socketPair returns two connected sockets that programs do not inherit.
func socketPair(kind int) (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	conn, err := unixConn(near)
	if err != nil {
		far.Close()
		return nil, nil, err
	}
	return conn, far, nil
}

// unixConn turns a socket's file into a connection and closes the file.
func unixConn(file *os.File) (*net.UnixConn, error) {
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("not a unix socket")
	}
	return unixConn, nil
}

// send writes one message, with open files beside it.
func send(conn *net.UnixConn, message any, files ...*os.File) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, file := range files {
			fds[i] = int(file.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	// Files are attached to the header only; four bytes are never split.
	if _, _, err := conn.WriteMsgUnix(head, rights, nil); err != nil {
		return err
	}
	_, err = conn.Write(body)
	return err
}

// receive reads one message. The caller closes the files that came with it.
func receive(conn *net.UnixConn, message any) ([]*os.File, error) {
	head, rights := make([]byte, 4), make([]byte, unix.CmsgSpace(8*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(head, rights)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	files, err := receivedFiles(rights[:oobn])
	if err != nil {
		return nil, err
	}
	body, err := receiveBody(conn, head, n)
	if err == nil {
		err = json.Unmarshal(body, message)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func receiveBody(conn io.Reader, head []byte, have int) ([]byte, error) {
	if _, err := io.ReadFull(conn, head[have:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxFrame {
		return nil, fmt.Errorf("message of %d bytes", size)
	}
	body := make([]byte, size)
	_, err := io.ReadFull(conn, body)
	return body, err
}

func receivedFiles(rights []byte) ([]*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

// request and response are what a conversation consists of.
type request struct {
	Do   string
	Body json.RawMessage
}

type response struct {
	Body  json.RawMessage
	Error *rpcError
}

// rpcError is an error that was sent. errors.Is still recognizes it.
type rpcError struct {
	Message  string
	Errno    syscall.Errno
	Sentinel string
}

// sentinels are the errors that both sides know by name.
var sentinels = map[string]error{
	"not exist": os.ErrNotExist, "permission": os.ErrPermission, "exist": os.ErrExist,
	"no account": ErrNoAccount, "only root": ErrOnlyRoot,
}

func (e *rpcError) Error() string { return e.Message }

// Is compares with the sentinel, and as the errno does.
func (e *rpcError) Is(target error) bool {
	return e.Sentinel != "" && sentinels[e.Sentinel] == target || e.Errno != 0 && errors.Is(e.Errno, target)
}

// newRPCError keeps the parts of an error that can be sent.
func newRPCError(err error) *rpcError {
	if err == nil {
		return nil
	}
	sent := &rpcError{Message: err.Error()}
	errors.As(err, &sent.Errno)
	for name, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			sent.Sentinel = name
		}
	}
	return sent
}

// rpcEndpoint is one end of the connection between two processes.
type rpcEndpoint struct{ control *net.UnixConn }

// newEndpoint returns one end and the file of the other, which a child inherits.
func newEndpoint() (*rpcEndpoint, *os.File, error) {
	control, far, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, nil, err
	}
	return &rpcEndpoint{control}, far, nil
}

// inheritedEndpoint returns the end that a process was started with.
func inheritedEndpoint(fd uintptr) (*rpcEndpoint, error) {
	unix.CloseOnExec(int(fd))
	control, err := unixConn(os.NewFile(fd, "rpc"))
	if err != nil {
		return nil, err
	}
	return &rpcEndpoint{control}, nil
}

func (e *rpcEndpoint) close() { e.control.Close() }

// open begins a conversation.
func (e *rpcEndpoint) open() (*net.UnixConn, error) {
	conn, far, err := socketPair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer far.Close()
	if _, _, err := e.control.WriteMsgUnix([]byte{0}, unix.UnixRights(int(far.Fd())), nil); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// accept waits for a conversation that the other side opens.
func (e *rpcEndpoint) accept() (*net.UnixConn, error) {
	one, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := e.control.ReadMsgUnix(one, rights)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	files, err := receivedFiles(rights[:oobn])
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		closeAll(files)
		return nil, errors.New("a conversation without its socket")
	}
	return unixConn(files[0])
}

// call sends a request to the other side and waits for the answer.
func (e *rpcEndpoint) call(do string, in, out any, files ...*os.File) ([]*os.File, error) {
	conn, err := e.open()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return exchange(conn, do, in, out, files...)
}

func exchange(conn *net.UnixConn, do string, in, out any, files ...*os.File) ([]*os.File, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	if err := send(conn, request{do, body}, files...); err != nil {
		return nil, err
	}
	var answer response
	back, err := receive(conn, &answer)
	if err != nil {
		return nil, err
	}
	if answer.Error != nil {
		closeAll(back)
		return nil, answer.Error
	}
	if out != nil {
		if err := json.Unmarshal(answer.Body, out); err != nil {
			closeAll(back)
			return nil, err
		}
	}
	return back, nil
}

// handler carries out a request. Files it is given are closed after it; files
// it returns are closed once they are sent.
type handler func(conn *net.UnixConn, body json.RawMessage, files []*os.File) (any, []*os.File, error)

// serve answers conversations, each in its own goroutine, until the other
// side is gone.
func (e *rpcEndpoint) serve(handlers map[string]handler) {
	for {
		conn, err := e.accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			answer(conn, handlers)
		}()
	}
}

// answer answers the one request of a conversation.
func answer(conn *net.UnixConn, handlers map[string]handler) {
	var asked request
	files, err := receive(conn, &asked)
	if err != nil {
		return
	}
	defer closeAll(files)
	handle, ok := handlers[asked.Do]
	if !ok {
		handle = func(*net.UnixConn, json.RawMessage, []*os.File) (any, []*os.File, error) {
			return nil, nil, fmt.Errorf("unknown request %q", asked.Do)
		}
	}
	result, back, err := handle(conn, asked.Body, files)
	defer closeAll(back)
	body, encodeErr := json.Marshal(result)
	if err == nil {
		err = encodeErr
	}
	_ = send(conn, response{Body: body, Error: newRPCError(err)}, back...) // the caller may be gone
}

// jsonHandler makes a handler of a function from one JSON value to another.
func jsonHandler[In, Out any](do func(In) (Out, error)) handler {
	return func(_ *net.UnixConn, body json.RawMessage, _ []*os.File) (any, []*os.File, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, nil, err
		}
		out, err := do(in)
		return out, nil, err
	}
}
