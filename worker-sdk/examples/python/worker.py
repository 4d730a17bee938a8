"""A worker from the .proto and grpcio alone: python worker.py 127.0.0.1:7070 emails"""
import asyncio, json, pathlib, random, signal, sys, grpc

sys.path.append(str(pathlib.Path(__file__).resolve().parents[3] / "proto" / "proto"))
pb, rpc = grpc.protos_and_services("currant/v1/worker.proto")  # compiled by grpcio-tools

async def send_email(job):
    print(f"job {job.job_id} attempt {job.attempt}: to {json.loads(job.payload)['to']}", flush=True)
    return b'"sent"'
HANDLERS = {"send_email": send_email}

class Worker:
    def __init__(self, channel, queues, concurrency=10):
        self.stub, self.queues, self.concurrency = rpc.WorkerServiceStub(channel), queues, concurrency
        self.free, self.stopping = asyncio.Semaphore(concurrency), asyncio.get_running_loop().create_future()
        self.session_id, self.received_seq, self.welcome = "", 0, None
        self.held = {}  # (job_id, attempt) -> the handler's task, until the outcome is answered
        self.outcomes = asyncio.Queue()  # bounded by the credit: at most one for each held attempt

    async def run(self):
        """Works until SIGTERM or SIGINT; then finishes what runs and gives back what waits."""
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, self.stopping.cancel)
        tasks = [asyncio.create_task(self.complete()), asyncio.create_task(self.subscribe())]
        await asyncio.wait([*tasks, self.stopping], return_when=asyncio.FIRST_COMPLETED)
        for _ in self.held: self.free.release()  # nothing waits any longer, see handle
        while self.held and not any(task.done() for task in tasks):
            await asyncio.sleep(0.1)
        for task in tasks: task.result() if task.done() else task.cancel()

    async def subscribe(self):
        while True:
            try:
                await self.session()
            except (grpc.RpcError, asyncio.TimeoutError) as error:
                print("subscribing again:", repr(error)[:99], file=sys.stderr)
            await asyncio.sleep(random.uniform(0.1, 1.0))

    async def session(self):
        """Opens a stream, presents what is held, and reads until the stream ends or falls silent."""
        stream = self.stub.Subscribe(pb.SubscribeRequest(worker="python", session_id=self.session_id,
            queues=self.queues, concurrency=self.concurrency, **self.holds()))
        self.welcome = welcome = (await asyncio.wait_for(stream.read(), 20)).welcome
        self.session_id, self.received_seq = welcome.session_id, 0
        self.stop([], welcome.lost)
        beats = asyncio.create_task(self.heartbeat())
        try:
            while not beats.done():
                silence = 3 * welcome.keep_alive_interval.ToMilliseconds() / 1000
                if (message := await asyncio.wait_for(stream.read(), silence)) is grpc.aio.EOF:
                    break
                self.received_seq = message.assignments.seq or self.received_seq
                for job in message.assignments.jobs:
                    self.held[job.job_id, job.attempt] = asyncio.create_task(self.handle(job))
                await asyncio.sleep(0)  # they begin: a task that never did can't report its end
                self.stop(message.cancel.attempts, message.lease_lost.attempts)
        finally:
            beats.cancel(), stream.cancel()

    async def handle(self, job):
        outcome = pb.Completion(job_id=job.job_id, attempt=job.attempt)
        try:
            async with self.free:
                if self.stopping.done():
                    outcome.released.SetInParent()
                else:
                    outcome.succeeded.result = await HANDLERS[job.kind](job)
        except asyncio.CancelledError:
            outcome.cancelled.SetInParent()
        except Exception as error:  # whatever a handler raises is a failed attempt
            outcome.failed.error = repr(error)
        if (job.job_id, job.attempt) in self.held:  # else it was lost: nobody wants to know
            self.outcomes.put_nowait(outcome)

    async def complete(self):
        """Reports outcomes: those that come while a call is under way go together into the next."""
        while batch := [await self.outcomes.get()]:
            while not self.outcomes.empty() and len(batch) < self.welcome.completions_max:
                batch.append(self.outcomes.get_nowait())
            request = pb.CompleteRequest(completions=batch, session_id=self.session_id)
            while request:  # safe to repeat, and repeated until it is answered
                try:
                    request = await self.stub.Complete(request, timeout=60) and None
                except grpc.RpcError as error:
                    if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE):
                        raise  # it would be refused for ever
                    await asyncio.sleep(random.uniform(0.1, 1.0))
            for one in batch: del self.held[one.job_id, one.attempt]

    async def heartbeat(self):
        while True:
            try:
                answer = await self.stub.Heartbeat(pb.HeartbeatRequest(session_id=self.session_id,
                    epoch=self.welcome.epoch, received_seq=self.received_seq, **self.holds()), timeout=10)
                self.stop(answer.cancelled, answer.lost)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    return  # the broker doesn't know the session
            await asyncio.wait([self.stopping], timeout=self.welcome.heartbeat_interval.ToMilliseconds() / 1000)
            await asyncio.sleep(0.1)

    def holds(self):
        return {"max_in_flight": 0 if self.stopping.done() else 2 * self.concurrency,
                "held": [pb.Attempt(job_id=job, attempt=attempt) for job, attempt in self.held]}

    def stop(self, cancelled, lost):
        for one in [*cancelled, *lost]:
            if (task := self.held.get((one.job_id, one.attempt))) and not task.done():  # what is done has its outcome on the way
                task.cancel()
                if one in lost: del self.held[one.job_id, one.attempt]

async def main(address="127.0.0.1:7070", *queues):
    async with grpc.aio.insecure_channel(address) as channel:
        await Worker(channel, queues or ["emails"]).run()

if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
