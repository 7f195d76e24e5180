/*
 * circuit_step.h
 *	  What a worker does about the circuit breaker.
 */
#ifndef TR_CIRCUIT_STEP_H
#define TR_CIRCUIT_STEP_H

#include "postgres.h"

/*
 * Before everything else that writes: count openings, try whether writes work
 * again when it is time to, and record that the circuit was open.
 */
extern void tr_circuit_keep(void);

#endif /* TR_CIRCUIT_STEP_H */
