/**
 * What can be switched on and off for a tenant: by whom, and what it is without a word. The list is closed; each has an
 * effect, which its description names.
 */
export const features = {
  email: {
    setBy: 'tenant',
    isOn: true,
    description: 'Mail of its pipelines and of its quotas; without it such a step is passed over.',
  },
  customPipelines: {
    setBy: 'platform',
    isOn: true,
    description: 'Saving pipelines of its own; without it only templates and what is saved can be run.',
  },
  bigQuery: {
    setBy: 'platform',
    isOn: true,
    description: 'Reading BigQuery; without it a run with such a step is refused.',
  },
} as const satisfies Record<string, { setBy: 'tenant' | 'platform'; isOn: boolean; description: string }>
/** A feature. */
export type Feature = keyof typeof features

/** Whether a feature is on for a tenant with these switches. */
export const isOn = (feature: Feature, switches: Partial<Record<Feature, boolean>>): boolean =>
  switches[feature] ?? features[feature].isOn

/** The feature without which a processor does nothing, by `ps_type`. */
export const featureOfProcessor: Readonly<Record<string, Feature>> = {
  'gcp.bq_etl': 'bigQuery',
  'notify_systems.email_notification': 'email',
}
