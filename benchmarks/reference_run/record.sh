#!/usr/bin/env bash
# Records the reference run, unattended, in under nine minutes; what is there when the time ends is kept.
#
# usage: record.sh PARTS_DIR OUT_DIR      on an air-gapped GPU host, with the parts that bundle.sh wrote
#        record.sh --rehearse OUT_DIR     anywhere, on the installed CPU engine, with tiny sizes
#
# OUT_DIR gets recording.tar.xz, which is what `hop2rag demo` loads once it is unpacked, and logs.tar.xz. Both are
# written again after each stage. Run again with the same WORK, it goes on where it stopped.
#
#   a   SmolLM2's real weights, prefix caching off and on, at several concurrencies; then one run with its texts
#   b   the shape of Qwen2.5-7B with random weights: the texts of the last run are replayed, at their lengths
#   c   what the exporter costs: collectors, sampler, nvitop-exporter beside it, the effect on decoding
set -uo pipefail

rehearse=; if [ "${1:-}" = --rehearse ]; then rehearse=1; shift; fi
parts=; if [ -z "$rehearse" ]; then parts=${1:?PARTS_DIR}; shift; fi
mkdir -p "${1:?OUT_DIR}"
out=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)

STAGES=${STAGES:-a b c}
TOTAL_SECONDS=${TOTAL_SECONDS:-530}     # of the whole script; the last RESERVE_SECONDS are for packing
RESERVE_SECONDS=${RESERVE_SECONDS:-25}
WORK=${WORK:-/var/tmp/reference-run}
ENGINE_PORT=${ENGINE_PORT:-8000}
PROMETHEUS_PORT=${PROMETHEUS_PORT:-9090}
if [ -n "$rehearse" ]; then
  LIMIT=2 TEXTS=2 MAX_HOPS=2 LEVELS=1,2 TEXTS_LEVEL=2 SHAPE_LEVELS=2,1 PAIRS=2 TOKENS=32 COSTS_SECONDS=5
else
  LIMIT=16 TEXTS=32 MAX_HOPS=2 LEVELS=1,4,16 TEXTS_LEVEL=16 SHAPE_LEVELS=32,16,8,4,2,1 PAIRS=10 TOKENS=128 COSTS_SECONDS=20
fi

mkdir -p "$WORK"/{logs,tables,expositions}
WORK=$(cd "$WORK" && pwd)
logs=$WORK/logs results=$WORK/results url=http://127.0.0.1:$ENGINE_PORT
export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 PYTHONUNBUFFERED=1
engine= keeper=

say() { echo "[$SECONDS s] $*" | tee -a "$logs/record.log"; }
left() { echo $((TOTAL_SECONDS - RESERVE_SECONDS - SECONDS)); }

within() { # runs a command for as long as there is time, then interrupts it
  [ "$(left)" -gt 5 ] || { say "no time for: $1"; return 1; }
  timeout --signal=INT --kill-after=20 "$(left)" "$@"
}

unpack() {
  export PYTHONPATH=$WORK/project PATH=$WORK/project/bin:$PATH HOP2RAG_CACHE=$WORK/cache HOP2RAG_PROMETHEUS=$WORK/bin
  engine_python=$WORK/bin/engine-python smollm2=$WORK/models/SmolLM2-135M-Instruct checkout=$WORK/parts/checkout
  device_flags=() sampled= shape_name=qwen2.5-7b-shape
  shape='"hidden_size":3584,"intermediate_size":18944,"num_hidden_layers":28,"num_attention_heads":28,"num_key_value_heads":4,"max_window_layers":28'
  [ -e "$WORK/unpacked" ] && return
  mkdir -p "$WORK"/{parts,bin}
  (cd "$parts" && sha256sum --quiet -c SHA256SUMS) || return 1
  cat "$parts"/part-* | tar -C "$WORK/parts" -xf - || return 1
  for site in engine project; do
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$WORK/$site" \
      "$WORK/parts/$site"/*.whl || return 1
  done
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
  device_flags=(--enforce-eager --block-size 32)
  HOP2RAG_CACHE=$cache hop2rag engine install > "$logs/install.log" 2>&1 || return
  export VLLM_CPU_KVCACHE_SPACE=1 HOP2RAG_CACHE=$WORK/cache
  mkdir -p "$WORK/cache"
  for part in corpus prometheus; do [ -e "$cache/$part" ] && ln -sfn "$cache/$part" "$WORK/cache/$part"; done
  sampled=$checkout/tests/fixtures/h200/prefix_caching_on/nvml_10ms.csv shape_name=qwen2-tiny-random
  shape='"hidden_size":256,"intermediate_size":512,"num_hidden_layers":4,"num_attention_heads":4,"num_key_value_heads":2,"max_window_layers":4'
}

make_shape() { # Qwen2's architecture with SmolLM2's tokenizer: only the sizes of the model matter, its words do not
  mkdir -p "$WORK/models/shape"
  cp "$smollm2"/{tokenizer.json,tokenizer_config.json,chat_template.jinja} "$WORK/models/shape/"
  cat > "$WORK/models/shape/config.json" <<JSON
{"architectures":["Qwen2ForCausalLM"],"model_type":"qwen2",$shape,
"vocab_size":49152,"max_position_embeddings":32768,"rms_norm_eps":1e-6,"rope_theta":1000000.0,"hidden_act":"silu",
"tie_word_embeddings":false,"torch_dtype":"bfloat16","bos_token_id":1,"eos_token_id":2,"use_sliding_window":false,
"sliding_window":131072,"initializer_range":0.02,"use_cache":true}
JSON
}

serve() { # NAME MODEL SERVED_NAME, then flags: starts an engine in place of the one that runs
  local name=$1 model=$2 served=$3
  shift 3
  stop_engine
  local argv=("$engine_python" -m vllm.entrypoints.openai.api_server --model "$model" --served-model-name "$served"
    --host 127.0.0.1 --port "$ENGINE_PORT" --tensor-parallel-size 1 --gpu-memory-utilization 0.9
    --enable-prompt-tokens-details "${device_flags[@]}" "$@")
  echo "${argv[*]}" >> "$WORK/commands.txt"
  # FlashInfer's sampler is compiled at its first use, which wants a compiler and minutes.
  VLLM_USE_FLASHINFER_SAMPLER=0 setsid "${argv[@]}" > "$logs/vllm-$name.log" 2>&1 < /dev/null &
  engine=$!
  until curl -sf -o /dev/null "$url/health"; do
    kill -0 "$engine" 2> /dev/null || { say "vLLM ($name) died"; tail -20 "$logs/vllm-$name.log"; return 1; }
    [ "$(left)" -gt 5 ] || { say "no time for vLLM ($name)"; return 1; }
    sleep 1
  done
  say "vLLM ($name) is ready"
}

stop_engine() { # the whole group: a worker outlives a parent that is killed
  [ -n "$engine" ] || return
  kill -TERM -- "-$engine" 2> /dev/null
  for _ in $(seq 20); do kill -0 -- "-$engine" 2> /dev/null || break; sleep 1; done
  kill -KILL -- "-$engine" 2> /dev/null
  wait "$engine" 2> /dev/null
  engine=
}

run() { # EXPERIMENT, then flags
  echo "hop2rag run $*" >> "$WORK/commands.txt"
  within hop2rag run "$@" --vllm-endpoint "$url" --max-hops "$MAX_HOPS" --prometheus-port "$PROMETHEUS_PORT" \
    --results "$results" --no-figures >> "$logs/hop2rag.log" 2>&1
}

named() { cat "$WORK/run-$1" 2> /dev/null; }

run_named() { # NAME EXPERIMENT, then flags: goes on with the run of that name if there is one
  local name=$1
  shift
  if [ -n "$(named "$name")" ]; then run "$@" --resume "$(named "$name")"; return; fi
  local before code
  before=$(runs)
  run "$@"
  code=$?
  comm -13 <(echo "$before") <(runs) > "$WORK/run-$name"
  return $code
}

runs() { ls "$results/runs" 2> /dev/null; }

is_finished() { grep -q '"status": "finished"' "$results/runs/$(named "$1")/manifest.json" 2> /dev/null; }

stage_a() {
  local caching=(--limit "$LIMIT" --concurrency "$LEVELS" --order AB)
  if ! is_finished caching; then
    serve smollm2-off "$smollm2" smollm2-135m-instruct --no-enable-prefix-caching || return
    # An attached engine cannot be changed, so the run stops at the other arm and goes on once that engine is there.
    run_named caching vllm-metrics "${caching[@]}"
    [ "$(left)" -gt 5 ] || return
  fi
  if ! is_finished caching || ! is_finished texts; then
    serve smollm2-on "$smollm2" smollm2-135m-instruct --enable-prefix-caching || return
    run_named caching vllm-metrics "${caching[@]}"
    run_named texts latency --limit "$TEXTS" --concurrency "$TEXTS_LEVEL" --record-prompts
  fi
}

stage_b() {
  is_finished texts || { say "no texts to replay"; return; }
  make_shape
  serve shape "$WORK/models/shape" "$shape_name" --load-format dummy --max-model-len 32768 || return
  run_named shape latency --limit "$TEXTS" --concurrency "$SHAPE_LEVELS" --replay "$(named texts)"
}

stage_c() {
  local raw=("$results"/runs/*/nvml)
  within python3 "$here/costs.py" --seconds "$COSTS_SECONDS" ${sampled:+--replay "$sampled"} --raw-log "${raw[@]}" \
    > "$WORK/tables/costs.txt" 2>> "$logs/costs.log"
  [ -n "$engine" ] || { make_shape; serve shape "$WORK/models/shape" "$shape_name" --load-format dummy; } || return
  within python3 "$checkout/benchmarks/observer_effect.py" --url "$url" --pairs "$PAIRS" --tokens "$TOKENS" \
    --replay "$sampled" > "$WORK/tables/observer_effect.txt" 2>> "$logs/observer_effect.log"
}

collect() {
  [ -d "$results/runs" ] || return
  local data=$WORK/cache/prometheus-$PROMETHEUS_PORT/data
  python3 "$here/pack.py" --promtool "$(find_promtool)" --data "$data" --results "$results" --out "$WORK/recording" \
    --expositions "$WORK/expositions" --tables "$WORK/tables" --commands "$WORK/commands.txt" >> "$logs/pack.log" 2>&1 &&
    tar -C "$WORK" -cJf "$out/recording.tar.xz" recording
  tar -C "$WORK" -cJf "$out/logs.tar.xz" logs
}

find_promtool() { command -v promtool || ls "${HOP2RAG_PROMETHEUS:-$HOP2RAG_CACHE/prometheus/usr/bin}/promtool"; }

finish() {
  trap - EXIT INT TERM
  stop_engine
  [ -n "$keeper" ] && kill "$keeper" 2> /dev/null
  collect
  say "done"
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ -n "$rehearse" ]; then use_installed; else unpack; fi || { say "could not be set up"; exit 1; }
say "set up"
python3 "$here/expositions.py" "$WORK/cache/prometheus-$PROMETHEUS_PORT/targets" "$WORK/expositions" 2> "$logs/expositions.log" &
keeper=$!
for stage in $STAGES; do
  say "stage $stage"
  "stage_$stage"
  collect
  say "stage $stage is collected"
done
