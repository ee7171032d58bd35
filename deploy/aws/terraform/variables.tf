# --- The program ----------------------------------------------------------------------------------------------------------

variable "zip" {
  description = "The zip that deploy/aws/build made."
  type        = string
}

variable "architecture" {
  description = "What the zip was built for: arm64 or x86_64."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture is arm64 or x86_64."
  }
}

# --- The registry ---------------------------------------------------------------------------------------------------------

variable "name" {
  description = "Name of the function, its role, its log group and its alarms."
  type        = string
  default     = "holdfast"
}

variable "upstream_url" {
  description = "The registry that public packages come from, as in `npm config get registry`; null for no public packages."
  type        = string
}

variable "github_organizations" {
  description = "GitHub organisations whose members may sign in; empty for local accounts only."
  type        = list(string)
  default     = []
}

variable "github_client_id" {
  description = "The OAuth app for signing in with the browser; null for signing in with a token of GitHub's."
  type        = string
  default     = null
}

variable "github_client_secret" {
  description = "The app's secret. It is in Terraform's state, and stands in the function's configuration: whoever may read either has it."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = (var.github_client_secret == null) == (var.github_client_id == null)
    error_message = "github_client_id and github_client_secret go together."
  }
}

variable "admins" {
  description = "Who may do everything: github:user/NAME, github:team/ORG/TEAM, user:NAME."
  type        = list(string)
  default     = []
}

variable "environment" {
  description = "Further settings, as variables: { HOLDFAST__SECTION__KEY = \"value\" }."
  type        = map(string)
  default     = {}
}

# --- The way in -----------------------------------------------------------------------------------------------------------

variable "front" {
  description = "What clients talk to: function-url, http-api or cloudfront. A domain of your own needs one of the latter two."
  type        = string
  default     = "function-url"

  validation {
    condition     = contains(["function-url", "http-api", "cloudfront"], var.front)
    error_message = "front is function-url, http-api or cloudfront."
  }
}

variable "domain" {
  description = "A domain of your own with its certificate in ACM, which is in us-east-1 for cloudfront and in the region of the function for http-api, and with its Route 53 zone, or null for a record made elsewhere."
  type = object({
    name            = string
    certificate_arn = string
    zone_id         = optional(string)
  })
  default = null

  validation {
    condition     = var.domain == null || var.front != "function-url"
    error_message = "A function URL cannot have a domain of its own: set front to http-api or cloudfront."
  }

  # The function has to be told its address before the distribution has one.
  validation {
    condition     = var.domain != null || var.front != "cloudfront"
    error_message = "front = \"cloudfront\" needs a domain."
  }
}

# --- The bucket -----------------------------------------------------------------------------------------------------------

variable "bucket" {
  description = "The bucket for everything."
  type        = string
}

variable "make_bucket" {
  description = "false for a bucket that is there; its settings are not touched then."
  type        = bool
  default     = true
}

variable "kms_key_arn" {
  description = "A KMS key for the objects; null for encryption with keys of S3 itself."
  type        = string
  default     = null
}

variable "cache_days" {
  description = "After how many days a copy of a public package is dropped; it is fetched anew when somebody wants it."
  type        = number
  default     = 90
}

variable "noncurrent_days" {
  description = "How long replaced and deleted objects can be brought back."
  type        = number
  default     = 30
}

# --- The function ---------------------------------------------------------------------------------------------------------

variable "memory" {
  description = "Megabytes; the processor's share grows with it."
  type        = number
  default     = 1024
}

variable "timeout" {
  description = "Seconds for one request. An HTTP API gives up after 30, CloudFront here after 60."
  type        = number
  default     = 60
}

variable "reserved_concurrency" {
  description = "At most so many requests at once, and always room for them; -1 for what the account has left."
  type        = number
  default     = -1
}

variable "log_days" {
  description = "How long logs are kept."
  type        = number
  default     = 30
}

variable "alarm_topic_arns" {
  description = "Topics of SNS that alarms go to; without any there are no alarms."
  type        = list(string)
  default     = []
}
