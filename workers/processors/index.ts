import type { Processor } from '../define.ts'
import credentialCheck from './credential/check.ts'
import dbIngest from './db/ingest.ts'
import fileCompress from './file/compress.ts'
import fileDelete from './file/delete.ts'
import fileExport from './file/export.ts'
import fileIngest from './file/ingest.ts'
import gcpBqEtl from './gcp/bq_etl.ts'
import lakeClassify from './lake/classify.ts'
import lakeRestore from './lake/restore.ts'
import lakeRetain from './lake/retain.ts'
import lakeValidate from './lake/validate.ts'
import emailNotification from './notify_systems/email_notification.ts'
import pipelineRun from './pipeline/run.ts'
import qualityCheck from './quality/check.ts'
import qualityProfile from './quality/profile.ts'
import qualityReport from './quality/report.ts'
import qualityReprocess from './quality/reprocess.ts'
import sqlTransform from './sql/transform.ts'
import tenantDismantle from './tenant/dismantle.ts'
import tenantExport from './tenant/export.ts'
import tenantProvisionFolders from './tenant/provision_folders.ts'
import tenantProvisionLake from './tenant/provision_lake.ts'
import tenantProvisionRemote from './tenant/provision_remote.ts'
import sftpDownload from './transfer/sftp_download.ts'
import sftpUpload from './transfer/sftp_upload.ts'

/** Every processor of the product, sorted by type. */
export const processors: readonly Processor[] = [
  credentialCheck,
  dbIngest,
  fileCompress,
  fileDelete,
  fileExport,
  fileIngest,
  gcpBqEtl,
  lakeClassify,
  lakeRestore,
  lakeRetain,
  lakeValidate,
  emailNotification,
  pipelineRun,
  qualityCheck,
  qualityProfile,
  qualityReport,
  qualityReprocess,
  sqlTransform,
  tenantDismantle,
  tenantExport,
  tenantProvisionFolders,
  tenantProvisionLake,
  tenantProvisionRemote,
  sftpDownload,
  sftpUpload,
]
