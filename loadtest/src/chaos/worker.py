"""The example's worker with a handler that writes down what it sees. Unlike the SDK's it reports what
it was told is lost too: the zombie whose completion comes late."""
import asyncio, json, os, runpy, sys, threading, time, grpc

program = runpy.run_path(sys.argv[1])
address, path, concurrency, *queues = sys.argv[2:]
history = open(path, "ab", buffering=0)
VERDICTS = {1: "applied", 2: "duplicate", 3: "stale", 4: "not_found"}
# Back soon, as the SDK is.
OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100),
           ("grpc.max_reconnect_backoff_ms", 500)]

def write(event, job, attempt, **more):
    line = {"at": time.time_ns() // 1000, "event": event, "job": job, "attempt": attempt, **more}
    history.write(json.dumps(line).encode() + b"\n")

async def handle(job):
    write("started", job.job_id, job.attempt)
    payload = json.loads(job.payload)
    await asyncio.sleep(payload["ms"] / 1000)
    succeeded = job.attempt > payload["fail"]
    write("ended", job.job_id, job.attempt, succeeded=succeeded)
    if not succeeded:
        raise RuntimeError("this attempt was meant to fail")
    return f"{job.job_id}/{job.attempt}".encode()
program["HANDLERS"]["chaos"] = handle

class Recording:
    def __init__(self, stub):
        self.stub = stub

    def __getattr__(self, name):
        return getattr(self.stub, name)

    async def Complete(self, request, timeout):
        answer = await self.stub.Complete(request, timeout=timeout)
        for one, verdict in zip(request.completions, answer.verdicts):
            write("answered", one.job_id, one.attempt, verdict=VERDICTS[verdict])
        return answer

class Zombie(program["Worker"]):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.stub = Recording(self.stub)

    def stop(self, cancelled, lost):
        super().stop(cancelled, [])

def end_with_the_load_test():
    while sys.stdin.buffer.read(64):
        pass
    os._exit(1)

def channel_to(address):
    if (ca_file := os.environ.get("CURRANT_CHAOS_CA_FILE")) is None:
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    with open(ca_file, "rb") as file:
        tls = grpc.ssl_channel_credentials(file.read())
    token = grpc.access_token_call_credentials(os.environ["CURRANT_CHAOS_TOKEN"])
    return grpc.aio.secure_channel(address, grpc.composite_channel_credentials(tls, token), options=OPTIONS)

async def main():
    threading.Thread(target=end_with_the_load_test, daemon=True).start()
    async with channel_to(address) as channel:
        await Zombie(channel, queues, int(concurrency)).run()

asyncio.run(main())
