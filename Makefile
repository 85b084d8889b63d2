# slm_pg: small language models inside PostgreSQL.  `make help` lists the targets.
#
# Two worlds are built here.  src/engine is a plain C11 library (build/engine/*.o -> libslm.a) that knows nothing of PostgreSQL;
# src/pg is an ordinary PGXS module that links it.  PG_CONFIG chooses the server.  Without any server the targets deps, test,
# demo and bench still work: they install what is missing and start make anew.  A build outside the tree, as packagers do it:
# make -f PATH/Makefile VPATH=PATH.

EXTENSION  = slm_pg
MODULE_big = slm_pg
top       := $(if $(VPATH),$(VPATH)/)
# files PATTERNS: the files of the tree that match, relative to it
files      = $(patsubst $(top)%,%,$(wildcard $(addprefix $(top),$1)))
PG_OBJS    = $(patsubst %.c,%.o,$(call files,src/pg/*.c src/pg/*/*.c))
OBJS       = $(PG_OBJS)
# The version stands in slm_pg.control; its script, and what brings the release before to it, are made of sql/parts and sql/upgrade.
# The scripts of releases are frozen in sql/releases.
SLM_VERSION  := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(top)slm_pg.control)
UPGRADE_FROM := $(notdir $(patsubst %/before.sql,%,$(call files,sql/upgrade/*/before.sql)))
SCRIPT     = sql/slm_pg--$(SLM_VERSION).sql
UPGRADE    = $(UPGRADE_FROM:%=sql/slm_pg--%--$(SLM_VERSION).sql)
DATA       = $(call files,sql/releases/slm_pg--*.sql)
DATA_built = $(SCRIPT) $(UPGRADE)
REGRESS    = $(patsubst sql/%.sql,%,$(filter-out sql/slm_pg--%.sql,$(call files,sql/*.sql)))
ISOLATION  = $(patsubst test/isolation/specs/%.spec,%,$(call files,test/isolation/specs/*.spec))
ISOLATION_OPTS = --inputdir=$(top)test/isolation
# -Werror in the project's own checks (make lint, make test), never in a packager's or a user's build
WERROR    ?=
PG_CPPFLAGS = -I$(top)src -DSLM_VERSION='"$(SLM_VERSION)"' -MMD -MP
# clang does not know some of the flags that pg_config hands on from the compiler that built the server, and warns of casts
# of walkers that macros of the server's headers make
PG_CFLAGS   = -Wextra -Wno-unused-parameter -Wno-declaration-after-statement -Wno-ignored-optimization-argument \
              -Wno-unknown-warning-option -Wno-ignored-attributes -Wno-cast-function-type-strict $(WERROR)
SHLIB_LINK  = libslm.a -Wl,--version-script=$(top)src/pg/slm_pg.map $(ENGINE_LIBS)

# Where the models live (see models/README.md), for installcheck in a place that the server can read: the regression tests ask psql for it,
# those of isolation the server, to which it comes as a setting of the connection.
SLM_MODEL_CACHE ?= $(HOME)/.cache/slm_pg
export SLM_MODEL_CACHE
blank :=
installcheck: export PGOPTIONS += -c slm_test.cache=$(subst $(blank) $(blank),\ ,$(SLM_MODEL_CACHE))

# Reference values of the golden tests: test/golden, with what is compressed there unpacked.
SLM_GOLDEN ?= build/golden
export SLM_GOLDEN

PG_CONFIG ?= pg_config
export PG_CONFIG
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
.DEFAULT_GOAL := all

# V=1 shows the engine's commands in full
Q   = $(if $(V),,@)
SAY = $(if $(V),:,echo)

# ---- the engine: a plain C11 library, one folder per instruction set with its own flags
ENGINE_SRC  = $(call files,src/engine/*.c src/engine/*/*.c src/engine/import/*/*.c src/engine/session/modes/*.c \
                     src/engine/kernels/ref/*.c)
ENGINE_LIBS = -lpcre2-8 -lutf8proc -ljansson -lxxhash -lpthread -lm
WARNINGS    = -Wall -Wextra $(WERROR) -Wno-unused-parameter -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes
ENGINE_BASE = -std=c11 -D_GNU_SOURCE -g -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno -I$(top)src \
              -DSLM_VERSION='"$(SLM_VERSION)"' $(WARNINGS)
ENGINE_CFLAGS = $(ENGINE_BASE) -O3 $(COPT)
MACHINE := $(shell uname -m)
ifeq ($(MACHINE),x86_64)
ENGINE_SRC += $(call files,src/engine/kernels/avx2/*.c src/engine/kernels/avx512/*.c)
endif
ifeq ($(MACHINE),aarch64)
ENGINE_SRC += $(call files,src/engine/kernels/neon/*.c)
endif
ISA_avx2   = -mavx2 -mfma -mf16c
ISA_avx512 = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni $(ISA_avx2)
ISA_neon   = -march=armv8.2-a+dotprod
isa_of     = $(notdir $(patsubst %/,%,$(dir $1)))
isa_flags  = $(ISA_$(call isa_of,$1))
ENGINE_OBJS = $(patsubst src/engine/%.c,build/engine/%.o,$(ENGINE_SRC))

# ---- the module
# No bitcode: the JIT would inline entry points that call engine symbols which the library deliberately does not export.
ifneq ($(wildcard $(PGXS)),)
override with_llvm = no
ifneq ($(VPATH),)
$(shell mkdir -p $(sort $(dir $(PG_OBJS))) sql)
endif
include $(PGXS)
$(shlib): libslm.a
all: libslm.a slm_engine $(DATA_built)
# Only what compiles needs the headers; the copied server of the tests installs without them.
$(PG_OBJS): slm_pg.control | build/server-headers
build/server-headers:
	@[ -e "$$($(PG_CONFIG) --includedir-server)/postgres.h" ] || { \
	  echo "The headers of the server are not there: $$($(PG_CONFIG) --includedir-server)/postgres.h" >&2; \
	  echo "Install them ('make deps'; Debian: postgresql-server-dev-NN) or set PG_CONFIG." >&2; exit 1; }
	@mkdir -p $(@D) && touch $@
install: $(DATA_built) install-engine
.PHONY: install-engine uninstall-engine
install-engine: slm_engine installdirs
	$(INSTALL_PROGRAM) slm_engine '$(DESTDIR)$(pkglibdir)/slm_engine'
uninstall: uninstall-engine
uninstall-engine:
	rm -f '$(DESTDIR)$(pkglibdir)/slm_engine'
-include $(PG_OBJS:.o=.d)
else
.PHONY: all install installcheck clean
all install installcheck:
	@echo "No PGXS found by PG_CONFIG=$(PG_CONFIG): install the server headers ('make deps') or set PG_CONFIG." >&2; exit 1
clean: clean-engine
endif

# The extension script: its parts in the order of their names.
$(SCRIPT): $(call files,sql/parts/*.sql)
	@$(SAY) "cat $^ > $@"
	$(Q)cat $^ > $@
# An upgrade: before.sql makes room, the parts are made anew, after.sql puts back what was kept.
$(UPGRADE): sql/slm_pg--%--$(SLM_VERSION).sql: sql/upgrade/%/before.sql $(call files,sql/parts/*.sql) sql/upgrade/%/after.sql \
            scripts/upgrade.awk
	@$(SAY) "make $@"
	$(Q)(cat $< && awk -f $(top)scripts/upgrade.awk $(filter %.sql,$(filter-out %after.sql,$^)) && cat $(filter %after.sql,$^)) > $@

build/engine/%.o: src/engine/%.c slm_pg.control
	@mkdir -p $(dir $@); $(SAY) "cc $<"
	$(Q)$(CC) $(ENGINE_CFLAGS) $(call isa_flags,$<) -MMD -MP -c -o $@ $<
-include $(ENGINE_OBJS:.o=.d)

libslm.a: $(ENGINE_OBJS)
	@rm -f $@; $(SAY) "ar $@"
	$(Q)$(AR) rcs $@ $^

# ---- slm_engine: the engine as a process of its own (docs/ENGINE.md)
SERVER_SRC  = $(call files,src/server/*.c)
SERVER_OBJS = $(patsubst src/%.c,build/%.o,$(SERVER_SRC))
build/server/%.o: src/server/%.c slm_pg.control
	@mkdir -p $(dir $@); $(SAY) "cc $<"
	$(Q)$(CC) $(ENGINE_CFLAGS) -MMD -MP -c -o $@ $<
slm_engine: $(SERVER_OBJS) libslm.a
	@$(SAY) "link $@"
	$(Q)$(CC) $(ENGINE_CFLAGS) $(LDFLAGS) -o $@ $^ $(ENGINE_LIBS)
# the same with texts that kill it: for tests
build/server_hooks/%.o: src/server/%.c slm_pg.control
	@mkdir -p $(dir $@); $(SAY) "cc $< (hooks)"
	$(Q)$(CC) $(ENGINE_CFLAGS) -DSLM_TEST_HOOKS -MMD -MP -c -o $@ $<
build/tools/slm_engine_hooks: $(patsubst src/server/%.c,build/server_hooks/%.o,$(SERVER_SRC)) libslm.a
	@mkdir -p $(dir $@); $(SAY) "link $@"
	$(Q)$(CC) $(ENGINE_CFLAGS) $(LDFLAGS) -o $@ $^ $(ENGINE_LIBS)
-include $(SERVER_OBJS:.o=.d) $(wildcard build/server_hooks/*.d)

# ---- programs on the engine: tests (own main, print "name: N passed, N failed"), benchmarks, tools
# A release is without the large reference values (.gitattributes), and leaves out there what compares with them.
NO_VALUES      = $(if $(wildcard test/golden/families),,test/unit/test_image.c test/golden/%)
TEST_PROGRAMS  = $(patsubst test/%.c,build/test/%,$(filter-out $(NO_VALUES),$(wildcard test/unit/test_*.c test/golden/test_*.c)))
BENCH_PROGRAMS = $(patsubst test/bench/%.c,build/bench/%,$(wildcard test/bench/*.c))
TOOL_PROGRAMS  = $(patsubst test/tools/%.c,build/tools/%,$(wildcard test/tools/*.c))
PROGRAM_LIBS   = libslm.a $(ENGINE_LIBS)
program = @mkdir -p $(dir $@); $(SAY) "cc $@"; $(CC) $(ENGINE_CFLAGS) -Itest -MMD -MP -MF $@.d -o $@ $<

build/test/%: test/%.c libslm.a
	$(program) $(PROGRAM_LIBS)
build/bench/%: test/bench/%.c libslm.a
	$(program) $(PROGRAM_LIBS)
build/tools/%: test/tools/%.c libslm.a
	$(program) $(PROGRAM_LIBS)
-include $(TEST_PROGRAMS:=.d) $(BENCH_PROGRAMS:=.d) $(TOOL_PROGRAMS:=.d)

.PHONY: tools programs benchmarks unit golden
golden:                          ## unpack the reference values of test/golden into build/golden
	@sh scripts/golden.sh build/golden
tools: $(TOOL_PROGRAMS)          ## build test/tools/*.c (quantizer, fixture makers) into build/tools
programs: $(TEST_PROGRAMS)
benchmarks: $(BENCH_PROGRAMS)
unit: golden slm_engine $(TEST_PROGRAMS) $(TOOL_PROGRAMS) ## build and run the engine's unit and golden tests
	@$(if $(NO_VALUES),echo "skip $(NO_VALUES): a release is without their reference values";) scripts/run_programs.sh $(TEST_PROGRAMS)

# ---- the same tests under AddressSanitizer and UndefinedBehaviorSanitizer, and the fuzz corpora
SAN_FLAGS   = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
SAN_CFLAGS  = $(ENGINE_BASE) -O1 $(SAN_FLAGS) -DSLM_SANITIZE
SAN_OBJS    = $(patsubst src/engine/%.c,build/asan/engine/%.o,$(ENGINE_SRC))
# test_nomem has a malloc of its own
SAN_TESTS   = $(patsubst test/%.c,build/asan/test/%,$(filter-out test/unit/test_nomem.c $(NO_VALUES),$(wildcard test/unit/test_*.c)))
SAN_ENV     = ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 SLM_ENGINE=build/asan/slm_engine

build/asan/engine/%.o: src/engine/%.c
	@mkdir -p $(dir $@); $(SAY) "cc $@"
	$(Q)$(CC) $(SAN_CFLAGS) $(call isa_flags,$<) -MMD -MP -c -o $@ $<
build/asan/libslm.a: $(SAN_OBJS)
	@rm -f $@; $(SAY) "ar $@"
	$(Q)$(AR) rcs $@ $^
build/asan/test/%: test/%.c build/asan/libslm.a
	@mkdir -p $(dir $@); $(SAY) "cc $@"
	$(Q)$(CC) $(SAN_CFLAGS) -Itest -MMD -MP -MF $@.d -o $@ $< build/asan/libslm.a $(ENGINE_LIBS)
build/asan/slm_engine: $(SERVER_SRC) build/asan/libslm.a
	@mkdir -p $(dir $@); $(SAY) "cc $@"
	$(Q)$(CC) $(SAN_CFLAGS) -o $@ $(filter %.c,$^) build/asan/libslm.a $(ENGINE_LIBS)
-include $(SAN_OBJS:.o=.d) $(SAN_TESTS:=.d)

.PHONY: sanitize sanitize-programs fuzz-replay
sanitize-programs: $(SAN_TESTS)
sanitize: golden build/asan/slm_engine $(SAN_TESTS)    ## the unit tests under AddressSanitizer and UBSan, and every fuzz corpus replayed
	@$(SAN_ENV) scripts/run_programs.sh $(SAN_TESTS)
	@$(SAN_ENV) $(MAKE) --no-print-directory fuzz-replay
-include test/fuzz/fuzz.mk

# ---- everything in one command each
print-%:
	@echo '$($*)'

.PHONY: deps models lint format dist package test test-clients test-long matrix docs site reference demo \
        bench bench-shapes help clean-engine
deps:                            ## install the Debian packages that are missing (root or sudo)
	@sh scripts/deps.sh $(PG_CONFIG)
models: deps                     ## fetch the models that tests and demo need into $SLM_MODEL_CACHE
	@models/fetch --default
lint:                            ## layers, symbols, sizes, headers alone, comments of SQL functions
	-@$(MAKE) --no-print-directory -k -j2 libslm.a $(if $(wildcard $(PGXS)),all)
	@sh test/lint/run.sh
test: deps                       ## everything: lint, unit, sanitizers, fuzz corpora, private cluster: regress, isolation, TAP
	@bash test/run.sh
test-long: deps                  ## the same with the long variants (SLM_TEST_LONG=1)
	@SLM_TEST_LONG=1 bash test/run.sh
test-clients:                    ## psycopg, asyncpg, SQLAlchemy, Django, node-postgres, pgx, JDBC; what they need installed first
	@sh scripts/deps.sh $(PG_CONFIG) clients
	@bash test/run.sh clients
docs: deps                       ## run the examples of all pages on a private server, record what it shows, build docs/reference
	@bash scripts/docs.sh
site: deps                       ## the pages as a site of static HTML with search: build/site/html
	@python3 scripts/site.py
reference: deps                  ## docs/reference alone: from the catalog, the COMMENTs and docs/reference/src
	@bash scripts/docs.sh reference
package: deps                    ## Debian packages, built and tried in clean folders of Debian 12 and 13 (root)
	@bash scripts/package.sh
matrix: deps                     ## builds and suites with every server and compiler that can be had (docs/PLATFORMS.md)
	@bash scripts/matrix.sh
demo: deps                       ## load SmolLM2 into a private cluster and answer, summarize and label 36 tickets by SQL
	@bash demo/run.sh
bench: deps                      ## kernels, forward pass and SQL timings -> build/bench/*.csv, table, docs/SPEED.md
	@bash test/bench/run_bench.sh
bench-shapes: deps               ## models of full size with random weights, 1B to 7B: import, prefill, decode (9 GB of disk)
	@bash test/bench/run_bench.sh shapes
format:                          ## clang-format FILES; those that git does not know yet, unless FILES are given
	@files="$${FILES:-$$(git ls-files --others --exclude-standard -- 'src/*.[ch]' 'test/*.[ch]')}"; \
	  [ -z "$$files" ] || $(or $(CLANG_FORMAT),clang-format) --style=file -i $$files
DIST ?= build/dist
dist:                            ## the release of what is committed, without the large reference values: zip and tarball in DIST
	@mkdir -p "$(DIST)"
	git archive --format=zip --prefix=slm_pg-$(SLM_VERSION)/ -o "$(DIST)/slm_pg-$(SLM_VERSION).zip" HEAD
	git archive --format=tar.gz --prefix=slm_pg-$(SLM_VERSION)/ -o "$(DIST)/slm_pg-$(SLM_VERSION).tar.gz" HEAD
help:                            ## this list
	@echo "make                 build the extension for the server of PG_CONFIG (default: pg_config)"
	@echo "make install         install it, as any PGXS extension (DESTDIR honoured)"
	@echo "make installcheck    regression and isolation tests against a running server that can read SLM_MODEL_CACHE"
	@awk -F ' *## ' '/^[a-z-]+:.*## / { sub(/:.*/, "", $$1); printf "make %-15s %s\n", $$1, $$2 }' Makefile
	@echo "make clean           remove everything that was built"

clean: clean-engine
clean-engine:
	rm -rf build libslm.a slm_engine $(PG_OBJS:.o=.d) results output_iso tmp_check tmp_check_iso log regression.diffs regression.out
