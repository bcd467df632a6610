import { walkPackaged } from './walk-packaged.ts'

walkPackaged('k0s')
