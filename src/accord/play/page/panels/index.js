// All panels below the first screen, in the order in which the story goes.

import { boundaries, lengths } from './length.js';
import { comparisons } from './comparisons.js';
import { displacement } from './displacement.js';
import { hacking } from './hacking.js';
import { kto } from './kto.js';
import { kink } from './kink.js';
import { learned } from './learned.js';
import { margins } from './margins.js';
import { odds } from './odds.js';
import { ownRun } from './own_run.js';
import { pull } from './pull.js';
import { use } from './use.js';
import { world } from './world.js';

export const SECTIONS = [
  { title: 'From preferences to a policy, two ways', panels: [comparisons, learned, hacking, pull] },
  { title: 'Where it goes wrong', panels: [margins, displacement, kink] },
  { title: 'The other objectives', panels: [kto, odds, boundaries, lengths] },
  { title: 'Make it yours', panels: [world, use, ownRun] },
];
