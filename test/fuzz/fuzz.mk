# Fuzz targets: test/fuzz/fuzz_NAME.c with its corpus in test/fuzz/corpus_NAME.
#   make fuzz-replay   every corpus through its target, built by the ordinary compiler with AddressSanitizer and UBSan
#   make fuzz          libFuzzer (clang), FUZZ_SECONDS per target; what it finds lands in build/fuzz
FUZZ_TARGETS = $(patsubst test/fuzz/fuzz_%.c,%,$(wildcard test/fuzz/fuzz_*.c))
FUZZ_SECONDS ?= 60
FUZZ_CFLAGS  = -Itest -Itest/unit

build/asan/fuzz/replay_%: test/fuzz/fuzz_%.c test/fuzz/replay.c build/asan/libslm.a
	@mkdir -p $(dir $@); echo "cc $@"
	@$(CC) $(SAN_CFLAGS) $(FUZZ_CFLAGS) -o $@ $< test/fuzz/replay.c build/asan/libslm.a $(ENGINE_LIBS)
fuzz-replay: $(FUZZ_TARGETS:%=build/asan/fuzz/replay_%)
	@for t in $(FUZZ_TARGETS); do build/asan/fuzz/replay_$$t test/fuzz/corpus_$$t || exit 1; done

# The kernels take no lengths from a file; instrumenting their long inner loops would take clang many minutes.
build/fuzz/engine/kernels/%.o: src/engine/kernels/%.c
	@mkdir -p $(dir $@)
	clang $(ENGINE_BASE) -O1 $(call isa_flags,$<) -c -o $@ $<
build/fuzz/engine/%.o: src/engine/%.c
	@mkdir -p $(dir $@)
	clang $(SAN_CFLAGS) -fsanitize=fuzzer-no-link $(call isa_flags,$<) -c -o $@ $<
build/fuzz/libslm.a: $(patsubst src/engine/%.c,build/fuzz/engine/%.o,$(ENGINE_SRC))
	@rm -f $@
	$(AR) rcs $@ $^
build/fuzz/fuzz_%: test/fuzz/fuzz_%.c build/fuzz/libslm.a
	clang $(SAN_CFLAGS) -fsanitize=fuzzer $(FUZZ_CFLAGS) -o $@ $< build/fuzz/libslm.a $(ENGINE_LIBS)
.PHONY: fuzz
fuzz: $(FUZZ_TARGETS:%=build/fuzz/fuzz_%) ## libFuzzer on every target for FUZZ_SECONDS (60)
	@for t in $(FUZZ_TARGETS); do mkdir -p build/fuzz/found_$$t; build/fuzz/fuzz_$$t -max_total_time=$(FUZZ_SECONDS) -max_len=16384 \
	    -artifact_prefix=build/fuzz/ build/fuzz/found_$$t test/fuzz/corpus_$$t || exit 1; done
