// Node's own BullMQ beside howdah: `node queue.mjs ORDER QUEUE [ARGUMENT]` on the Redis in REDIS_URL; the answer is one line of JSON.
import { readFileSync } from 'node:fs';
import { Queue, QueueEvents } from 'bullmq';
import { Redis } from 'ioredis';

const [order, name, argument] = process.argv.slice(2);
const connection = new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const options = { connection, prefix: 'howdah' };
const queue = new Queue(name, options);

const orders = {
  // Puts a plan into line, and waits until a worker of howdah's is done with it.
  async add() {
    const events = new QueueEvents(name, options);
    await events.waitUntilReady();
    const seen = [];
    events.on('progress', ({ data }) => seen.push(data));
    const plan = readFileSync(argument, 'utf8');
    const job = await queue.add('from-node', { plan, vars: { said: 'node' } }, { attempts: 2, priority: 3 });
    const returned = await job.waitUntilFinished(events, 60_000);
    const { logs } = await queue.getJobLogs(job.id);
    const workers = await queue.getWorkers();
    await events.close();
    return { returned, progress: seen, logs, workers: workers.map((worker) => worker.rawname) };
  },
  // What Node sees of a job that howdah has put into line or worked on.
  async see() {
    const job = await queue.getJob(argument);
    const { id, name, data, opts, progress, attemptsMade, failedReason, returnvalue, processedBy } = job;
    const state = await job.getState();
    return { id, name, data, opts, progress, attemptsMade, failedReason, returnvalue, processedBy, state };
  },
  async retry() {
    const job = await queue.getJob(argument);
    await job.retry();
    return { state: await job.getState() };
  },
};

console.log(JSON.stringify(await orders[order]()));
await queue.close();
await connection.quit();
