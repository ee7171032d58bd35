# A registry for the members of one GitHub organisation:
#
#   deploy/aws/build --arch arm64
#   cd deploy/aws/terraform/example
#   terraform init
#   terraform apply -var upstream_url="$(npm config get registry)" -var bucket=acme-npm -var 'github_organizations=["acme"]'

variable "upstream_url" {
  description = "The registry that public packages come from."
  type        = string
}

variable "bucket" {
  description = "The bucket for everything; its name is taken by whoever has it first, in all the world."
  type        = string
}

variable "github_organizations" {
  description = "Whose members may sign in."
  type        = list(string)
}

module "holdfast" {
  source               = "../"
  zip                  = "${path.module}/../../../../target/lambda/holdfast-arm64.zip"
  upstream_url         = var.upstream_url
  bucket               = var.bucket
  github_organizations = var.github_organizations
}

output "registry_url" {
  value = module.holdfast.registry_url
}
