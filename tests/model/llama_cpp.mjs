// Lets llama.cpp (through node-llama-cpp) read a GGUF file: token ids of texts and chats, greedy continuations with their logits.
//
//     node llama_cpp.mjs FOLDER JOB ANSWER     FOLDER: where npm has put its node_modules; JOB and ANSWER: JSON files
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, jobFile, answerFile] = process.argv.slice(2);
const from = (file) => import(pathToFileURL(join(folder, "node_modules", file)).href);
const { getLlama } = await from("node-llama-cpp/dist/index.js");
const { Template } = await from("@huggingface/jinja/dist/index.js");

// Prebuilt and on the CPU: a test compiles and fetches nothing.
const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, logLevel: "error", maxThreads: 1 });
const job = JSON.parse(await readFile(jobFile, "utf8"));
const model = await llama.loadModel({ modelPath: job.gguf, gpuLayers: 0 });

/** The file's own chat template; the string is parsed for special tokens, as llama.cpp's programs do it. */
function chatIds(messages) {
    const template = new Template(model.fileInfo.metadata.tokenizer.chat_template);
    const values = { messages, add_generation_prompt: true, eos_token: model.tokens.eosString };
    return model.tokenize(template.render(values), true);
}

/** Token and logits after `ids`; those before are in the cache already. */
async function next(sequence, ids) {
    const last = [ids.at(-1), { generateNext: { token: true, logits: true, options: { temperature: 0 } } }];
    const found = (await sequence.controlledEvaluate([...ids.slice(0, -1), last])).at(-1).next;
    const logits = new Float32Array(job.vocabulary);
    for (const [token, logit] of found.logits) logits[token] = logit;
    return [found.token, logits];
}

/** Greedy tokens after `prompt`, beyond an end of text too, and the logits (float32, base64) that each was picked from. */
async function continued(sequence, prompt) {
    await sequence.clearHistory();
    const tokens = [], logits = [];
    for (let ids = prompt; tokens.length < job.new_tokens; ids = tokens.slice(-1)) {
        const [token, row] = await next(sequence, ids);
        tokens.push(token);
        logits.push(Buffer.from(row.buffer));
    }
    return { tokens, logits: Buffer.concat(logits).toString("base64") };
}

const texts = job.texts.map((text) => model.tokenize(text, false));
const answer = {
    release: llama.llamaCppRelease.release,
    texts,
    not_read_back: job.texts.filter((text, i) => model.detokenize(texts[i]) !== text),
    chats: job.chats.map(chatIds),
    ends: [...model.iterateAllTokens()].filter((token) => model.isEogToken(token)),
    answers: [],
};
const context = await model.createContext({
    contextSize: job.context, batchSize: job.context, sequences: 1, threads: 1, flashAttention: false,
    experimentalKvCacheKeyType: job.cache, experimentalKvCacheValueType: job.cache, // llama.cpp's default, F16, rounds keys and values
});
const sequence = context.getSequence();
for (const prompt of job.prompts) answer.answers.push(await continued(sequence, prompt));
await writeFile(answerFile, JSON.stringify(answer));
await llama.dispose();
