import { walkPackaged } from './walk-packaged.ts'

walkPackaged('k3s')
