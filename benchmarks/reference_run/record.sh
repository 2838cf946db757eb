#!/usr/bin/env bash
# Records the experiments on an air-gapped GPU host, unattended; what is there when the time ends is kept.
#
# usage: record.sh PARTS_DIR OUT_DIR      on the host, with the parts that bundle.sh wrote
#        record.sh --rehearse OUT_DIR     anywhere, on the installed CPU engine, with tiny sizes
#
# Called again with the same WORK it goes on where it stopped, so a host that is lent for minutes at a time will do. A
# stage is begun only if the time left is what it takes. OUT_DIR gets, at the end,
#   recording.tar.xz   what `hop2rag demo` loads once it is unpacked
#   results.tar.xz     figures, reports and data of every run
#   tsdb.tar.xz.*      Prometheus's own storage, in pieces of 15 MB: with it `--resume` draws every figure again
#   logs.tar.xz
#
# Stages, in order of worth (STAGES picks some):
#   texts        SmolLM2's real weights answer all questions; their texts are what the others replay
#   caching      the shape of Qwen2.5-7B with random weights, prefix caching off and on, 1 to 64 at a time
#   memory       10 ms of GPU memory beside the KV pool
#   concurrency  both batch sizes, 1 to 64 at a time
#   pipeline, latency, growth
#   overlap      retrieval that blocks, in threads or with its embeddings batched, at the highest level
#   layouts      the prompts' layouts, warm-up, and what they compute
#   prefetch     drafts that are right half and nine tenths of the time, before a store that takes 0.2 s
#   chunks       512 tokens a step against the engine's own default
#   calm, pressure   contexts of up to 13,000 tokens, 4 and 16 questions at a time, in KV pools that hold all of them to
#                one, and in one with host memory behind it
#   sleeping     an engine that sleeps while documents are retrieved
#   costs        what watching costs: collectors, sampler, nvitop-exporter beside it, the effect on decoding
set -uo pipefail

rehearse=; if [ "${1:-}" = --rehearse ]; then rehearse=1; shift; fi
parts=; if [ -z "$rehearse" ]; then parts=${1:?PARTS_DIR}; shift; fi
mkdir -p "${1:?OUT_DIR}"
out=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)

STAGES=${STAGES:-texts caching memory concurrency pipeline latency overlap layouts prefetch growth chunks calm pressure sleeping costs}
TEXTS_RUN=${TEXTS_RUN:-}                # a run of the H200's recording whose texts are replayed; then `texts` runs nothing
TOTAL_SECONDS=${TOTAL_SECONDS:-560}     # of the whole script; the last RESERVE_SECONDS are for packing
RESERVE_SECONDS=${RESERVE_SECONDS:-35}
WORK=${WORK:-/var/tmp/reference-run}
ENGINE_PORT=${ENGINE_PORT:-8000}
PROMETHEUS_PORT=${PROMETHEUS_PORT:-9090}
if [ -n "$rehearse" ]; then
  TEXTS=6 TEXTS_LEVEL=2 HOPS=2 LIMIT=2 ROUNDS=2 LEVELS=1,2 LEVEL=2 TOP=2 SOME=2 MANY=4 FEW=2 PAIRS=2 TOKENS=32
  COSTS_SECONDS=5
  CONTEXTS=(--contexts 512,1024,2048)
  WORDS=150 TIGHT="--max-model-len 4096 --max-num-seqs 32" CALM="2 300 140" PRESSURE="4 600 200"
else
  TEXTS=199 TEXTS_LEVEL=32 HOPS=3 LIMIT=8 ROUNDS=3 LEVELS=1,2,4,8,16,32,64 LEVEL=16 TOP=64 SOME=96 MANY=128 FEW=12
  PAIRS=10 TOKENS=128 COSTS_SECONDS=20 CONTEXTS=()
  WORDS=900 TIGHT="--max-model-len 16384 --max-num-seqs 32 --enforce-eager" CALM="4 4400 2200 1100"
  PRESSURE="16 17600 8800 4400 2200 2200+24 1100"
fi
[ -n "$TEXTS_RUN" ] && HOPS=3 # as recorded: a shorter replay would ask for calls that the recording lacks
CALM=${CALM_POOLS:-$CALM} PRESSURE=${PRESSURE_POOLS:-$PRESSURE}   # in flight, then blocks of each pool; +GiB of host memory

mkdir -p "$WORK"/{logs,tables,expositions}
WORK=$(cd "$WORK" && pwd)
logs=$WORK/logs results=$WORK/results url=http://127.0.0.1:$ENGINE_PORT
# FlashInfer's sampler is compiled at its first use, which wants a compiler and minutes.
# Some library of the agent imports JAX where it is installed, and that would take the GPU from the engine.
export JAX_PLATFORMS=cpu
export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 PYTHONUNBUFFERED=1 VLLM_USE_FLASHINFER_SAMPLER=0
keeper= up=

say() { echo "[$SECONDS s] $*" | tee -a "$logs/record.log"; }
left() { echo $((TOTAL_SECONDS - RESERVE_SECONDS - SECONDS)); }

within() { # runs a command for as long as there is time, then interrupts it
  [ "$(left)" -gt 5 ] || { say "no time for: $1"; return 1; }
  timeout --signal=INT --kill-after=20 "$(left)" "$@"
}

unpack() {
  export PYTHONPATH=$WORK/project PATH=$WORK/project/bin:$PATH HOP2RAG_CACHE=$WORK/cache HOP2RAG_PROMETHEUS=$WORK/bin
  engine_python=$WORK/bin/engine-python smollm2=$WORK/models/SmolLM2-135M-Instruct checkout=$WORK/parts/checkout
  sampled= shape_name=Qwen2.5-7B-shape
  shape='"hidden_size":3584,"intermediate_size":18944,"num_hidden_layers":28,"num_attention_heads":28,"num_key_value_heads":4,"max_window_layers":28'
  [ -e "$WORK/unpacked" ] && return
  mkdir -p "$WORK"/{parts,bin}
  (cd "$parts" && sha256sum --quiet -c SHA256SUMS) || return 1
  cat "$parts"/part-* | tar -C "$WORK/parts" -xf - || return 1
  local site pids=() pid
  for site in engine project; do
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$WORK/$site" \
      "$WORK/parts/$site"/*.whl &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || return 1; done
  for program in prometheus promtool; do
    gunzip -c "$WORK/parts/prometheus/$program.gz" > "$WORK/bin/$program" && chmod +x "$WORK/bin/$program" || return 1
  done
  printf '#!/bin/sh\nPYTHONPATH=%s exec python3 "$@"\n' "$WORK/engine" > "$engine_python"
  chmod +x "$engine_python"
  # -P: the script's own folder holds modules that would hide the standard library's.
  "$engine_python" -P "$WORK/project/workload/engine/dequantize.py" "$smollm2" || return 1
  touch "$WORK/unpacked"
}

use_installed() { # the CPU engine of the cache, and a shape small enough for it
  local cache=${HOP2RAG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hop2rag}
  checkout=$(cd "$here/../.." && pwd)
  export PATH=$checkout/.venv/bin:$PATH
  engine_python=$cache/engine/venv/bin/python smollm2=$cache/engine/models/SmolLM2-135M-Instruct
  HOP2RAG_CACHE=$cache hop2rag engine install > "$logs/install.log" 2>&1 || return
  export HOP2RAG_CACHE=$WORK/cache
  mkdir -p "$WORK/cache"
  for part in corpus prometheus; do [ -e "$cache/$part" ] && ln -sfn "$cache/$part" "$WORK/cache/$part"; done
  sampled=$checkout/tests/fixtures/h200/prefix_caching_on/nvml_10ms.csv shape_name=Qwen2-tiny-shape
  shape='"hidden_size":256,"intermediate_size":512,"num_hidden_layers":4,"num_attention_heads":4,"num_key_value_heads":2,"max_window_layers":4'
}

make_shape() { # Qwen2's architecture with SmolLM2's tokenizer: only the sizes of the model matter, its words do not
  local model=$WORK/models/$shape_name
  mkdir -p "$model"
  cp "$smollm2"/{tokenizer.json,tokenizer_config.json,chat_template.jinja} "$model/"
  cat > "$model/config.json" <<JSON
{"architectures":["Qwen2ForCausalLM"],"model_type":"qwen2",$shape,
"vocab_size":49152,"max_position_embeddings":32768,"rms_norm_eps":1e-6,"rope_theta":1000000.0,"hidden_act":"silu",
"tie_word_embeddings":false,"torch_dtype":"bfloat16","bos_token_id":1,"eos_token_id":2,"use_sliding_window":false,
"sliding_window":131072,"initializer_range":0.02,"use_cache":true}
JSON
  random_shape=(--engine-python "$engine_python" --model "$model" --engine-args "--load-format dummy")
}

named() { cat "$WORK/run-$1" 2> /dev/null; }
is_finished() { grep -q '"status": "finished"' "$results/runs/$(named "$1")/manifest.json" 2> /dev/null; }
runs() { ls "$results/runs" 2> /dev/null; }

run() { # NAME, then a command of hop2rag and its flags; goes on with the run of that name if there is one
  local name=$1 before code
  shift
  is_finished "$name" && return
  local places=(--prometheus-port "$PROMETHEUS_PORT" --engine-port "$ENGINE_PORT" --results "$results")
  if [ -n "$(named "$name")" ]; then places+=(--resume "$(named "$name")"); fi
  echo "hop2rag $*" >> "$WORK/commands.txt"
  before=$(runs)
  within hop2rag "$@" "${places[@]}" >> "$logs/hop2rag-$name.log" 2>&1
  code=$?
  [ -n "$(named "$name")" ] || comm -13 <(echo "$before") <(runs) > "$WORK/run-$name"
  say "$name: exit code $code"
  return $code
}

replayed() { run "$1" "${@:2}" --replay "$(named texts)" "${random_shape[@]}" --max-hops "$HOPS"; }

texts() {
  if [ -n "$TEXTS_RUN" ]; then
    local from to=$results/runs/$TEXTS_RUN
    from=$(python3 -P -c 'from workload.paths import asset; print(asset("tests/fixtures/reference-run/h200/runs"))')/$TEXTS_RUN
    mkdir -p "$to" && cp "$from/manifest.json" "$to/" && xz -dc "$from/journal.sqlite.xz" > "$to/journal.sqlite" &&
      echo "$TEXTS_RUN" > "$WORK/run-texts"
    return
  fi
  run texts run latency --limit "$TEXTS" --concurrency "$TEXTS_LEVEL" --max-hops "$HOPS" --record-prompts \
    --engine-python "$engine_python" --model "$smollm2"
}
caching() { replayed caching run vllm-metrics --limit "$LIMIT" --rounds "$ROUNDS" --concurrency "$LEVELS" --order AB; }
concurrency() { replayed concurrency run concurrency --limit "$LIMIT" --rounds "$ROUNDS" --concurrency "$LEVELS" --order AB; }
memory() { on_one_engine && replayed memory run gpu-memory --limit "$FEW"; }
pipeline() { on_one_engine && replayed pipeline run pipeline --limit "$FEW" --record-prompts; }
latency() { on_one_engine && replayed latency run latency --limit "$((2 * FEW))"; }
overlap() {
  on_one_engine && replayed overlap ab --arm original --arm blocking:retrieval=blocking --arm batched:retrieval=batched \
    --concurrency "$TOP" --limit "$MANY"
}
layouts() {
  on_one_engine && replayed layouts ab --arm original --arm instructions-first --arm append-only \
    --arm primed:layout=append-only,primed=true --concurrency "$LEVEL" --limit "$SOME"
}
prefetch() {
  on_one_engine && replayed prefetch ab --arm original --arm half:prefetch=planted,draft-accuracy=0.5 \
    --arm most:prefetch=planted,draft-accuracy=0.9 --option retrieval-delay=0.2 --limit "$FEW"
}
chunks() {
  replayed chunks ab --arm original --arm chunks-512:chunked-prefill=true,max-num-batched-tokens=512 \
    --concurrency "$LEVEL" --limit "$SOME" --order AB
}
growth() { replayed growth run context-growth --limit "$((2 * FEW))" "${CONTEXTS[@]}"; }
under_pressure() { # NAME, then flags of `ab`: one growing log per question, passages as long as articles, no more memory
  local long=$WORK/long-passages.json random_shape=("${random_shape[@]::4}" --engine-args "--load-format dummy $TIGHT")
  if [ ! -e "$long" ]; then
    hop2rag corpus synthetic "$WORK/passages.json" >> "$logs/corpus.log" 2>&1 &&
      python3 -P "$here/long_passages.py" "$WORK/passages.json" "$long" --words "$WORDS" 2>> "$logs/corpus.log" || return
  fi
  replayed "$1" ab "${@:2}" --option layout=append-only --questions "$long" --order AB --record-prompts
}
in_pools() { # NAME, in flight, then the pools
  local arms=() pool blocks
  for pool in "${@:3}"; do
    blocks=${pool%+*}
    case $pool in
      *+*) arms+=(--arm "pool-$blocks-host:num-gpu-blocks=$blocks,kv-offloading-gib=${pool#*+}") ;;
      *) arms+=(--arm "pool-$blocks:num-gpu-blocks=$blocks") ;;
    esac
  done
  under_pressure "$1" "${arms[@]}" --concurrency "$2" --limit "$((2 * $2 > FEW ? 2 * $2 : FEW))"
}
# shellcheck disable=SC2086
calm() { in_pools calm $CALM; }
# shellcheck disable=SC2086
pressure() { in_pools pressure $PRESSURE; }
sleeping() {
  [ -n "$rehearse" ] && return # vLLM frees no memory on a CPU
  under_pressure sleeping --arm awake:sleep-mode=true --arm sleeping:sleep-mode=true,sleeping=true --limit "$((FEW / 2))"
}
costs() {
  local raw=("$results"/runs/*/nvml)
  on_one_engine || return
  within python3 "$here/costs.py" --seconds "$COSTS_SECONDS" ${sampled:+--replay "$sampled"} --raw-log "${raw[@]}" \
    > "$WORK/tables/costs.txt" 2>> "$logs/costs.log"
  within python3 "$checkout/benchmarks/observer_effect.py" --url "$url" --pairs "$PAIRS" --tokens "$TOKENS" \
    --replay "$sampled" > "$WORK/tables/observer_effect.txt" 2>> "$logs/observer_effect.log"
  [ -s "$WORK/tables/observer_effect.txt" ] && touch "$WORK/done-costs"
}

on_one_engine() { # keeps an engine up for the stages that share the base profile
  [ -n "$up" ] && kill -0 "$up" 2> /dev/null && return
  setsid hop2rag up --engine-port "$ENGINE_PORT" --prometheus-port "$PROMETHEUS_PORT" "${random_shape[@]}" \
    > "$logs/up.log" 2>&1 < /dev/null &
  up=$!
  until curl -sf -o /dev/null "$url/health"; do
    kill -0 "$up" 2> /dev/null || { say "the engine did not start"; up=; return 1; }
    [ "$(left)" -gt 5 ] || return 1
    sleep 1
  done
}

bring_down() {
  [ -n "$up" ] || return
  kill -TERM "$up" 2> /dev/null
  wait "$up" 2> /dev/null
  up=
}

is_done() {
  case $1 in
    costs) [ -e "$WORK/done-costs" ] ;;
    *) is_finished "$1" ;;
  esac
}

takes() { # seconds that a stage takes on an H200, its engine's start included
  [ -n "$rehearse" ] && { echo 0; return; }
  case $1 in
    caching | concurrency) echo 450 ;;
    growth | chunks | layouts | calm | pressure) echo 200 ;;
    overlap | prefetch | sleeping | costs) echo 150 ;;
    *) echo 100 ;;
  esac
}

collect() {
  [ -d "$results/runs" ] || return
  local data=$WORK/cache/prometheus-$PROMETHEUS_PORT/data
  python3 "$here/pack.py" --promtool "$(find_promtool)" --data "$data" --results "$results" --out "$WORK/recording" \
    --expositions "$WORK/expositions" --tables "$WORK/tables" --leave-out "$TEXTS_RUN" --commands "$WORK/commands.txt" >> "$logs/pack.log" 2>&1 &&
    tar -C "$WORK" -cf - recording | xz -T0 -1 > "$out/recording.tar.xz"
  tar -C "$results" --exclude nvml --exclude 'journal.sqlite*' -cf - . | xz -T0 -1 > "$out/results.tar.xz"
  rm -f "$out"/tsdb.tar.xz.*
  tar -C "$(dirname "$data")" -cf - "$(basename "$data")" | xz -T0 -1 | split -b 15000000 -d -a 1 - "$out/tsdb.tar.xz."
  tar -C "$WORK" -cf - logs | xz -T0 -1 > "$out/logs.tar.xz"
}

find_promtool() { command -v promtool || ls "${HOP2RAG_PROMETHEUS:-$HOP2RAG_CACHE/prometheus/usr/bin}/promtool"; }

finish() {
  trap - EXIT INT TERM
  bring_down
  [ -n "$keeper" ] && kill "$keeper" 2> /dev/null
  collect
  say "done"
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ -n "$rehearse" ]; then use_installed; else unpack; fi || { say "could not be set up"; exit 1; }
make_shape
say "set up"
python3 "$here/expositions.py" "$WORK/cache/prometheus-$PROMETHEUS_PORT/targets" "$WORK/expositions" 2> "$logs/expositions.log" &
keeper=$!
for stage in $STAGES; do
  is_done "$stage" && continue
  [ "$(left)" -gt "$(takes "$stage")" ] || { say "$stage waits for the next call"; continue; }
  case $stage in caching | concurrency | growth | chunks | texts | calm | pressure | sleeping) bring_down ;; esac
  say "$stage"
  "$stage"
done
