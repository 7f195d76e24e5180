# token_rotation: build, installation and tests, with PostgreSQL's PGXS.
#
#   make                   build, against the server that PG_CONFIG names
#   make install           into that server's directories
#   make test              packages, build, and what every change has to pass
#   make test-all          everything, at full size, on 15, 17 and 18: an hour
#   make test-versions     the suite on 15, 17 and 18
#   make unit | layers     single parts of it that need no server
#   make demo [KEEP=1]     the demonstration; KEEP=1 leaves its server running
#   make bench             the measurements
#   make installcheck      the server tests against what is installed (not as root)
#
# STOP_POINTS=1 makes a developer build, for test/stop_points only.

MODULE_big = token_rotation
EXTENSION = token_rotation
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" token_rotation.control)
PGFILEDESC = "token_rotation - the life of API tokens"

# The layers, lowest first (test/layers checks that nothing points upwards).
LAYERS = core frame state verbs server
our_headers := $(sort $(wildcard $(LAYERS:%=src/%/*.h)))
OBJS := $(patsubst %.c,%.o,$(sort $(wildcard $(LAYERS:%=src/%/*.c))))

# The SQL script is joined from its topics.  Beside them lie the scripts of
# versions that were released, as they were, and those that update from them.
DATA := $(sort $(wildcard src/schema/token_rotation--*.sql))
SCHEMA := $(filter-out $(DATA),$(sort $(wildcard src/schema/*.sql)))
DATA_built = token_rotation--$(EXTVERSION).sql

# Server headers count as system headers, so that only our own code warns.
# Callbacks do not choose their parameters, so unused ones are no fault.
# The server's flags may be gcc's; clang is told to pass over what it does not know.
PG_CPPFLAGS = -I$(srcdir)/src -isystem $(includedir_server) -isystem $(includedir_internal)
PG_CPPFLAGS += -DTR_VERSION='"$(EXTVERSION)"'
PG_CPPFLAGS += $(if $(STOP_POINTS),-DTR_STOP_POINTS)
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter $(if $(findstring clang,$(shell $(CC) --version)),\
	-Wno-unknown-warning-option -Wno-ignored-optimization-argument)
SHLIB_LINK = -lcrypto -lz

# Bitcode for JIT needs clang and serves nothing here: with_llvm=yes asks for it.
ifneq ($(origin with_llvm),command line)
override with_llvm := no
endif

# Tests.  `install` goes first because the others use what it creates, `lint`
# last because it looks at the catalog that they leave.  Each suite starts a
# server of its own, beside tmp_check, which the TAP tests delete.  Of the TAP
# tests the one that waits for pg_cron's minutes begins before the others.
sql_tests := $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS := $(strip $(filter install,$(sql_tests)) $(filter-out install lint,$(sql_tests)) \
	$(filter lint,$(sql_tests)))
ISOLATION := $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))
PROVE_TESTS := $(wildcard test/t/080_cron.pl) $(sort $(filter-out %/080_cron.pl,$(wildcard test/t/*.pl)))
TAP_TESTS := $(if $(PROVE_TESTS),1)
ENCODING = UTF8
NO_LOCALE = 1
REGRESS_OPTS = --temp-instance=$(CURDIR)/tmp_check_regress --temp-config=$(CURDIR)/test/regress.conf
ISOLATION_OPTS = --inputdir=$(CURDIR)/test/isolation \
	--temp-instance=$(CURDIR)/tmp_check_iso --temp-config=$(CURDIR)/test/regress.conf
EXTRA_CLEAN = tmp_check tmp_check_regress tmp_check_iso output_iso results log \
	regression.diffs regression.out

# These find or install what they need themselves, so they work before there is
# a server; everything else is PGXS's.
scripts = setup test test-all test-versions demo bench unit layers
.PHONY: $(scripts)

ifneq ($(filter-out $(scripts),$(or $(MAKECMDGOALS),all)),)
PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error $(PG_CONFIG) does not run: name the server's with PG_CONFIG=..., or install one with test/setup)
endif
include $(PGXS)

$(OBJS) $(OBJS:.o=.bc): $(our_headers) Makefile

$(DATA_built): $(SCHEMA) token_rotation.control
	cat $(SCHEMA) < /dev/null > $@

clean: clean-unit
.PHONY: clean-unit
clean-unit:
	$(MAKE) -C test/unit clean
	$(MAKE) -C test/fuzz clean
endif

setup:
	test/setup
test:
	test/run
test-all:
	test/run --all
test-versions:
	test/servers/versions
demo:
	test/demo
bench:
	test/bench/run
	test/bench/redis
unit:
	$(MAKE) -C test/unit check
layers:
	test/layers
	test/sqllint
