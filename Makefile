# slm_pg: small language models inside PostgreSQL.  `make help` lists the targets.

EXTENSION  = slm_pg
MODULE_big = slm_pg
OBJS       = $(patsubst %.c,%.o,$(wildcard src/pg/*.c src/pg/*/*.c))
DATA       = $(wildcard sql/slm_pg--*.sql)
REGRESS    = $(patsubst sql/%.sql,%,$(filter-out sql/slm_pg--%.sql,$(wildcard sql/*.sql)))
PG_CPPFLAGS = -Isrc
SHLIB_LINK  = libslm.a -Wl,--version-script=src/pg/slm_pg.map $(ENGINE_LIBS)

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)

# ---- the engine: a plain C11 library, one folder per instruction set with its own flags
ENGINE_SRC  = $(wildcard src/engine/*.c src/engine/*/*.c src/engine/kernels/ref/*.c)
ENGINE_LIBS = -lpcre2-8 -lutf8proc -ljansson -lxxhash -lpthread -lm
WARNINGS    = -Wall -Wextra -Werror -Wno-unused-parameter -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes
ENGINE_CFLAGS = -std=c11 -D_GNU_SOURCE -O3 -g -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno -Isrc $(WARNINGS)
MACHINE := $(shell uname -m)
ifeq ($(MACHINE),x86_64)
ENGINE_SRC += $(wildcard src/engine/kernels/avx2/*.c src/engine/kernels/avx512/*.c)
endif
ENGINE_OBJS = $(patsubst src/engine/%.c,build/engine/%.o,$(ENGINE_SRC))
EXTRA_CLEAN = libslm.a build

build/engine/kernels/avx2/%.o:   ISA_FLAGS = -mavx2 -mfma -mf16c
build/engine/kernels/avx512/%.o: ISA_FLAGS = -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c

include $(PGXS)

all: libslm.a

build/engine/%.o: src/engine/%.c
	@mkdir -p $(dir $@)
	$(CC) $(ENGINE_CFLAGS) $(ISA_FLAGS) -MMD -MP -c -o $@ $<
-include $(ENGINE_OBJS:.o=.d)

libslm.a: $(ENGINE_OBJS)
	rm -f $@
	$(AR) rcs $@ $^

$(shlib): libslm.a

# ---- tests of the engine: test/unit/test_x.c and test/golden/test_x.c, one program each
TEST_PROGRAMS = $(patsubst test/%.c,build/test/%,$(wildcard test/unit/test_*.c test/golden/test_*.c))
build/test/%: test/%.c libslm.a
	@mkdir -p $(dir $@)
	$(CC) $(ENGINE_CFLAGS) -Itest -o $@ $< libslm.a $(ENGINE_LIBS)

.PHONY: unit
unit: $(TEST_PROGRAMS)
	@for t in $^; do $$t || exit 1; done
