"""A worker in Python, from the .proto alone: no SDK, only grpcio. See README.md beside it.

    python worker.py 127.0.0.1:7070 emails
"""

import asyncio
import importlib
import json
import pathlib
import random
import sys
import tempfile

import grpc
from google.protobuf.duration_pb2 import Duration

PROTO = pathlib.Path(__file__).resolve().parents[3] / "proto" / "proto"


def compile_proto():
    """Compiles the contract into a temporary directory and imports it."""
    from grpc_tools import protoc

    out = tempfile.mkdtemp(prefix="currant-")
    files = ["currant/v1/job.proto", "currant/v1/worker.proto"]
    if protoc.main(["", f"-I{PROTO}", f"--python_out={out}", f"--grpc_python_out={out}", *files]):
        sys.exit("the .proto files don't compile")
    sys.path.insert(0, out)
    return (importlib.import_module(f"currant.v1.worker_pb2{suffix}") for suffix in ("", "_grpc"))


pb, rpc = compile_proto()


async def send_email(job):
    print(f"job {job.job_id} attempt {job.attempt}: sent to {json.loads(job.payload)['to']}", flush=True)
    return b'"sent"'


HANDLERS = {"send_email": send_email}


class Worker:
    def __init__(self, channel, queues, concurrency=10):
        self.stub = rpc.WorkerServiceStub(channel)
        self.queues, self.concurrency = queues, concurrency
        self.free = asyncio.Semaphore(concurrency)
        self.session_id, self.epoch, self.received_seq = "", 0, 0
        self.held = {}  # (job_id, attempt) -> asyncio task; until its outcome is answered
        self.outcomes = asyncio.Queue()  # bounded by the credit: at most one for each held attempt

    async def run(self):
        completer = asyncio.create_task(self.complete())
        while not completer.done():
            try:
                await self.subscribe()
            except (grpc.aio.AioRpcError, asyncio.TimeoutError) as error:
                print(f"no stream: {getattr(error, 'details', lambda: 'silent')()}", file=sys.stderr)
            await asyncio.sleep(random.uniform(0.1, 1.0))
        completer.result()

    async def subscribe(self):
        """Opens a stream, presenting what is held, and reads it until it ends or falls silent."""
        stream = self.stub.Subscribe(pb.SubscribeRequest(
            worker="python", queues=self.queues, max_in_flight=2 * self.concurrency,
            concurrency=self.concurrency, session_id=self.session_id, held=self.attempts()))
        welcome = (await asyncio.wait_for(stream.read(), 20)).welcome
        self.session_id, self.epoch, self.received_seq = welcome.session_id, welcome.epoch, 0
        self.welcome = welcome
        self.lose(welcome.lost)
        print(f"session {self.session_id} epoch {self.epoch}", file=sys.stderr)
        beats = asyncio.create_task(self.heartbeat(stream))
        silence = 3 * welcome.keep_alive_interval.ToTimedelta().total_seconds()
        try:
            while (message := await asyncio.wait_for(stream.read(), silence)) is not grpc.aio.EOF:
                self.receive(message)
        finally:
            beats.cancel()
            stream.cancel()

    def receive(self, message):
        what = message.WhichOneof("message")
        if what == "assignments":
            self.received_seq = message.assignments.seq
            for job in message.assignments.jobs:
                if (job.job_id, job.attempt) not in self.held:
                    self.held[job.job_id, job.attempt] = asyncio.create_task(self.handle(job))
        elif what == "cancel":
            self.stop(message.cancel.attempts)
        elif what == "lease_lost":
            self.lose(message.lease_lost.attempts)

    async def handle(self, job):
        outcome = pb.Completion(job_id=job.job_id, attempt=job.attempt)
        try:
            async with self.free:
                outcome.succeeded.result = await HANDLERS[job.kind](job)
        except asyncio.CancelledError:
            outcome.cancelled.SetInParent()
        except Exception as error:  # whatever a handler raises is a failed attempt
            outcome.failed.error = repr(error)
        if (job.job_id, job.attempt) in self.held:  # else it was lost: nobody wants to know
            self.outcomes.put_nowait(outcome)

    async def complete(self):
        """Reports outcomes: whatever came while the last call was under way goes into the next."""
        while True:
            batch = [await self.outcomes.get()]
            while not self.outcomes.empty() and len(batch) < self.welcome.completions_max:
                batch.append(self.outcomes.get_nowait())
            while True:  # safe to repeat, and repeated until it is answered
                try:
                    await self.stub.Complete(pb.CompleteRequest(
                        session_id=self.session_id, received_seq=self.received_seq, completions=batch))
                    break
                except grpc.aio.AioRpcError as error:
                    if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                        raise  # it would be refused for ever
                    await asyncio.sleep(random.uniform(0.1, 1.0))
            for one in batch:
                self.held.pop((one.job_id, one.attempt), None)

    async def heartbeat(self, stream):
        while True:
            await asyncio.sleep(self.welcome.heartbeat_interval.ToTimedelta().total_seconds())
            try:
                answer = await self.stub.Heartbeat(pb.HeartbeatRequest(
                    session_id=self.session_id, epoch=self.epoch,
                    received_seq=self.received_seq, held=self.attempts()))
                self.stop(answer.cancelled)
                self.lose(answer.lost)
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    stream.cancel()  # the broker doesn't know the session: subscribe again

    def attempts(self):
        return [pb.Attempt(job_id=job_id, attempt=attempt) for job_id, attempt in self.held]

    def stop(self, attempts):
        for one in attempts:
            if handler := self.held.get((one.job_id, one.attempt)):
                handler.cancel()

    def lose(self, attempts):
        for one in attempts:
            handler = self.held.get((one.job_id, one.attempt))
            if handler and not handler.done():  # a finished one has its verdict to come
                del self.held[one.job_id, one.attempt]
                handler.cancel()


async def main(address="127.0.0.1:7070", *queues):
    async with grpc.aio.insecure_channel(address) as channel:
        await Worker(channel, queues or ["emails"]).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
