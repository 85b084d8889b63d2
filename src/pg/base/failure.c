/*
 * failure.c: errors by whose fault they are; see failure.h.
 */
#include "pg/base/failure.h"

#include "pg/base/errors.h"

SlmFailure slm_pg_failure(int sqlstate)
{
    switch (sqlstate) {
    case ERRCODE_LOCK_NOT_AVAILABLE:
    case ERRCODE_OBJECT_IN_USE:
        return SLM_FAILURE_PASSING;
    case ERRCODE_DISK_FULL:
    case ERRCODE_CONFIGURATION_LIMIT_EXCEEDED: /* a budget, which comes back */
        return SLM_FAILURE_WHOLE;
    case SLM_ERRCODE_POISON:
        return SLM_FAILURE_ROW;
    default:
        break;
    }
    switch (ERRCODE_TO_CATEGORY(sqlstate)) {
    case MAKE_SQLSTATE('0', '9', '0', '0', '0'):
    case MAKE_SQLSTATE('0', 'A', '0', '0', '0'):
    case MAKE_SQLSTATE('2', '1', '0', '0', '0'):
    case MAKE_SQLSTATE('2', '2', '0', '0', '0'):
    case MAKE_SQLSTATE('2', '3', '0', '0', '0'):
    case MAKE_SQLSTATE('2', '7', '0', '0', '0'):
    case MAKE_SQLSTATE('3', '8', '0', '0', '0'):
    case MAKE_SQLSTATE('3', '9', '0', '0', '0'):
    case MAKE_SQLSTATE('4', '4', '0', '0', '0'):
    case MAKE_SQLSTATE('5', '4', '0', '0', '0'):
    case MAKE_SQLSTATE('P', '0', '0', '0', '0'):
        return SLM_FAILURE_ROW;
    case MAKE_SQLSTATE('4', '0', '0', '0', '0'):
        return SLM_FAILURE_PASSING;
    case MAKE_SQLSTATE('2', '5', '0', '0', '0'):
    case MAKE_SQLSTATE('2', '8', '0', '0', '0'):
    case MAKE_SQLSTATE('3', 'D', '0', '0', '0'):
    case MAKE_SQLSTATE('3', 'F', '0', '0', '0'):
    case MAKE_SQLSTATE('4', '2', '0', '0', '0'):
    case MAKE_SQLSTATE('5', '5', '0', '0', '0'):
    case MAKE_SQLSTATE('5', '8', '0', '0', '0'):
        return SLM_FAILURE_WHOLE;
    default:
        return SLM_FAILURE_UNKNOWN;
    }
}

bool slm_pg_ends_work(int sqlstate)
{
    return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION);
}

char *slm_pg_failure_text(const ErrorData *error)
{
    return psprintf("%s: %s", unpack_sql_state(error->sqlerrcode), error->message);
}
