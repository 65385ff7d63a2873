package simulator

import (
	"strconv"
	"time"
)

// The records are those of the documentation ([doc] in APIS.md §1), with its names and types, at about 1.5 KB a person.

func (w *writer) person() {
	first, last := word(firstNames, w.draw(10)), word(lastNames, w.draw(11))
	id := strconv.FormatInt(w.m.id, 10)
	company := word(companies, w.shift(12))
	w.time("last_contacted_at", w.contacted())
	w.text("first_name", first)
	w.text("last_name", last)
	w.text("display_name", first, " ", last)
	w.text("email_address", "person", id, "@example.com")
	w.null("secondary_email_address")
	w.text("personal_email_address", "p", id, "@example.org")
	w.text("phone", "+1 404 ", w.digits(13, 7))
	w.null("phone_extension", "home_phone")
	w.text("mobile_phone", "+1 470 ", w.digits(14, 7))
	w.text("title", word(titles, w.shift(15)))
	w.text("city", word(cities, w.shift(16)))
	w.text("state", "Georgia")
	w.text("country", "United States")
	w.text("crm_id", "00Q", w.digits(17, 12))
	w.text("crm_object_type", "Lead")
	w.text("person_company_name", company)
	w.text("person_company_industry", word(industries, w.draw(19)))
	w.truth("do_not_contact", w.shift(20)%16 == 0)
	w.truth("bouncing", false)
	w.text("locale", "US/Eastern")
	w.number("locale_utc_offset", -300)
	w.truth("eu_resident", w.draw(21)%8 == 0)
	w.null("twitter_handle", "job_seniority")
	w.truth("starred", w.shift(22)%4 == 0)
	w.truth("untouched", w.draw(32)%2 == 0)
	w.truth("hot_lead", false)
	w.personTail()
}

func (w *writer) personTail() {
	w.object("custom_fields", func() {
		w.text("Revision", w.revision())
		w.text("Segment", word(industries, w.shift(23)), " \\/ ", word(cities, w.draw(24)))
		w.text("Best way to reach", "after lunch, by phone")
	})
	w.list("tags", "prospect", word(industries, w.shift(25)))
	w.list("contact_restrictions")
	w.counters("emails_sent", "emails_viewed", "emails_clicked", "emails_replied_to", "emails_bounced", "calls")
	w.reference("account", "accounts", w.draw(26)%50)
	w.reference("owner", "users", 1+w.shift(27)%10)
	w.reference("last_contacted_by", "users", w.shift(28)%10)
	w.reference("import", "imports", w.draw(29)%3)
	w.reference("person_stage", "person_stages", 1+w.shift(30)%6)
	w.reference("most_recent_cadence", "cadences", w.shift(31)%12)
	w.null("last_completed_step")
}

func (w *writer) account() {
	id := strconv.FormatInt(w.m.id, 10)
	archived := int64(null)
	if w.shift(29)%12 == 0 {
		archived = w.created + int64(w.m.content)*day
	}
	w.time("archived_at", archived)
	w.text("name", word(companies, w.draw(10)), " ", id)
	w.text("domain", "company", id, ".example.com")
	w.text("conversational_name", word(companies, w.draw(10)))
	w.text("description", "Makes things in ", word(cities, w.shift(11)), ". Revision ", w.revision(), ".")
	w.text("phone", "+1 404 ", w.digits(12, 7))
	w.text("website", "https://company", id, ".example.com")
	w.null("linkedin_url", "twitter_handle")
	w.text("street", w.digits(13, 3), " Peachtree St")
	w.text("city", word(cities, w.draw(14)))
	w.text("state", "GA")
	w.text("postal_code", w.digits(15, 5))
	w.text("country", "United States")
	w.text("locale", "US/Eastern")
	w.text("industry", word(industries, w.draw(16)))
	w.text("company_type", "Private")
	w.text("founded", "19", w.digits(17, 2))
	w.text("revenue_range", "10-50M")
	w.text("size", w.digits(18, 3))
	w.text("crm_id", "001", w.digits(19, 12))
	w.text("crm_url", "https://example.my.salesforce.com/001", w.digits(19, 12))
	w.text("crm_object_type", "Account")
	w.text("owner_crm_id", "005", w.digits(20, 12))
	w.time("last_contacted_at", w.contacted())
	w.null("last_contacted_type")
	w.truth("do_not_contact", w.shift(21)%16 == 0)
	w.object("custom_fields", func() { w.text("Tier", word(moods, w.shift(22))) })
	w.object("user_relationships", func() {})
	w.list("tags", word(industries, w.shift(23)))
	w.counters("people")
	w.reference("owner", "users", 1+w.shift(24)%10)
	w.reference("creator", "users", 1+w.draw(25)%10)
	w.reference("last_contacted_by", "users", w.shift(26)%10)
	w.reference("last_contacted_person", "people", w.shift(27)%100)
	w.reference("company_stage", "account_stages", w.shift(28)%5)
	w.null("account_tier")
}

func (w *writer) call() {
	w.text("to", "+1 404 ", w.digits(10, 7))
	w.number("duration", int64(w.draw(11)%600)+int64(w.m.content))
	w.text("sentiment", word(moods, w.shift(12)))
	w.text("disposition", word(outcomes, w.shift(13)))
	w.name("recordings")
	w.b = append(w.b, `[{"url":"https://recordings.example.com/`...)
	w.b = append(w.b, w.digits(14, 10)...)
	w.b = append(w.b, `.mp3","recording_status":"completed"}]`...)
	w.reference("user", "users", 1+w.draw(15)%10)
	w.reference("action", "actions", w.draw(16)%1000)
	w.reference("called_person", "people", 1+w.draw(17)%100)
	w.null("crm_activity")
	w.reference("note", "notes", w.shift(18)%80)
	w.reference("cadence", "cadences", w.draw(19)%12)
	w.reference("step", "steps", w.draw(20)%60)
}

func (w *writer) email() {
	w.text("recipient_email_address", "person", w.digits(10, 3), "@example.com")
	w.text("status", word([]string{"sent", "delivered", "scheduled", "pending"}, w.shift(11)))
	w.truth("bounced", w.shift(12)%20 == 0)
	w.null("send_after")
	w.time("sent_at", w.contacted())
	w.truth("view_tracking", true)
	w.truth("click_tracking", w.draw(13)%2 == 0)
	w.text("subject", "Re: ", word(titles, w.draw(14)), " (", w.revision(), ")")
	w.text("personalization", w.digits(15, 2), ".", w.digits(16, 1))
	w.null("error_message")
	w.counters("clicks", "views", "replies", "unique_devices", "unique_locations", "attachments")
	w.reference("user", "users", 1+w.draw(17)%10)
	w.reference("recipient", "people", 1+w.draw(18)%100)
	w.null("crm_activity")
	w.reference("action", "actions", w.draw(19)%1000)
	w.reference("cadence", "cadences", w.draw(20)%12)
	w.reference("step", "steps", w.draw(21)%60)
	w.null("task")
	w.reference("email_template", "email_templates", w.draw(22)%20)
	w.reference("mailing", "mime_email_payloads", w.draw(23)%1000)
}

func (w *writer) cadence() {
	w.null("archived_at")
	w.truth("team_cadence", w.draw(10)%2 == 0)
	w.truth("shared", w.shift(11)%2 == 0)
	w.truth("remove_bounces_enabled", true)
	w.truth("remove_replies_enabled", true)
	w.truth("opt_out_link_included", w.draw(12)%2 == 0)
	w.truth("draft", w.shift(13)%4 == 0)
	w.number("cadence_framework_id", int64(w.draw(14)%9))
	w.text("cadence_function", "outbound")
	w.text("name", word(industries, w.draw(15)), " outreach, revision ", w.revision())
	w.null("external_identifier")
	w.list("tags", word(moods, w.shift(16)))
	w.counters("cadence_people", "people_acted_on_count", "target_daily_people", "opportunities_created", "meetings_booked")
	w.reference("creator", "users", 1+w.draw(17)%10)
	w.reference("owner", "users", 1+w.shift(18)%10)
	w.null("bounced_stage", "replied_stage")
	w.reference("added_stage", "person_stages", w.draw(19)%6)
	w.reference("finished_stage", "person_stages", w.draw(20)%6)
	w.reference("cadence_priority", "cadence_priorities", 1+w.draw(21)%3)
	w.list("groups")
}

func (w *writer) membership() {
	w.time("added_at", w.created)
	w.truth("person_deleted", false)
	w.truth("currently_on_cadence", w.shift(10)%2 == 0)
	w.text("current_state", word(stages, w.shift(11)))
	w.counters("views", "clicks", "replies", "calls", "sent_emails", "bounces")
	w.reference("cadence", "cadences", 1+w.draw(12)%12)
	w.reference("person", "people", 1+w.draw(13)%100)
	w.reference("user", "users", 1+w.draw(14)%10)
	w.reference("latest_action", "actions", uint64(w.m.content))
}

func (w *writer) note() {
	w.text("content", "Spoke with ", word(firstNames, w.draw(10)), ".\\nNext step: ", word(outcomes, w.shift(11)), " (", w.revision(), ")")
	w.text("associated_type", "person")
	w.reference("associated_with", "people", 1+w.draw(12)%100)
	w.reference("user", "users", 1+w.draw(13)%10)
	w.reference("call", "activities/calls", w.draw(14)%100)
}

func (w *writer) user() {
	first, last := word(firstNames, w.draw(10)), word(lastNames, w.draw(11))
	id := strconv.FormatInt(w.m.id, 10)
	w.text("guid", "5f3c0000-0000-4000-8000-", w.digits(12, 12))
	w.text("name", first, " ", last)
	w.text("first_name", first)
	w.text("last_name", last)
	w.text("job_role", word(titles, w.shift(13)), " ", w.revision())
	w.truth("active", w.shift(14)%8 != 0)
	w.text("time_zone", "US/Eastern")
	w.null("slack_username", "twitter_handle")
	w.text("email", "user", id, "@example.com")
	w.text("email_client_email_address", "user", id, "@example.com")
	w.text("sending_email_address", "user", id, "@example.com")
	w.null("from_address")
	w.text("full_email_address", "\\\"", first, "\\\" \\u003cuser", id, "@example.com\\u003e")
	w.null("bcc_email_address")
	w.text("work_country", "US")
	w.text("seat_package", "premier")
	w.text("email_signature", "\\u003cp\\u003e", first, "\\u003c\\/p\\u003e")
	w.text("email_signature_type", "html")
	w.truth("email_signature_click_tracking_disabled", false)
	w.truth("team_admin", w.draw(15)%8 == 0)
	w.truth("local_dial_enabled", true)
	w.truth("click_to_call_enabled", true)
	w.truth("email_client_configured", w.draw(16)%2 == 0)
	w.truth("crm_connected", w.draw(17)%2 == 0)
	w.object("role", func() { // [doc]: the built-in roles have names for ids
		if w.draw(18)%3 == 0 {
			w.number("id", int64(1000+w.draw(18)%50))
		} else {
			w.text("id", word([]string{"Admin", "User"}, w.draw(19)))
		}
	})
	w.reference("group", "groups", w.draw(20)%4)
	w.reference("team", "team", 1)
	w.null("phone_client", "phone_number_assignment")
}

// due is the day by which a task is to be done.
func (w *writer) due() int64 { return (w.created/day + int64(w.shift(10)%30)) * day }

func (w *writer) task() {
	w.text("subject", "Call ", word(firstNames, w.draw(11)), " (", w.revision(), ")")
	w.text("current_state", word(stages, w.shift(12)))
	w.raw("due_date", time.UnixMicro(w.due()).UTC().Format(`"2006-01-02"`))
	w.truth("remind", w.draw(13)%2 == 0)
	w.text("task_type", word([]string{"call", "email", "general", "integration"}, w.draw(14)))
	w.null("completed_at", "completed_by", "description")
	w.reference("person", "people", 1+w.draw(15)%100)
	w.reference("user", "users", 1+w.draw(16)%10)
	w.reference("step", "steps", w.draw(17)%60)
}

func (w *writer) stage() {
	w.text("name", word(outcomes, w.draw(10)), " ", w.revision())
	w.number("order", int64(w.shift(11)%20))
}

func (w *writer) action() {
	w.truth("due", w.shift(10)%2 == 0)
	w.time("due_on", w.created+int64(w.shift(11)%30)*day)
	w.text("type", word([]string{"phone", "email", "other"}, w.draw(12)))
	w.text("status", word(stages, w.shift(13)), " ", w.revision())
	w.null("multitouch_group_id")
	w.reference("action_details", "action_details/call_instructions", 1+w.draw(14)%60)
	w.reference("user", "users", 1+w.draw(15)%10)
	w.reference("person", "people", 1+w.draw(16)%100)
	w.reference("cadence", "cadences", 1+w.draw(17)%12)
	w.reference("step", "steps", 1+w.draw(18)%60)
}

func (w *writer) activity() {
	w.text("type", word([]string{"call", "email_open", "email_reply", "note_created"}, w.draw(10)))
	w.time("occurred_at", w.created)
	w.text("resource_type", "person")
	w.number("resource_id", int64(1+w.draw(11)%100))
	w.null("user_guid", "failed_dynamic_resources", "pinned_at")
	w.object("static_data", func() { w.text("revision", w.revision()) })
	w.object("dynamic_data", func() {})
}

func (w *writer) callData() {
	w.text("to", "+1 404 ", w.digits(10, 7))
	w.text("from", "+1 470 ", w.digits(11, 7))
	w.number("duration", int64(w.draw(12)%600)+int64(w.m.content))
	w.text("direction", word([]string{"outbound", "inbound"}, w.draw(13)))
	w.text("status", word([]string{"completed", "busy", "no_answer"}, w.shift(14)))
	w.text("call_type", "call")
	w.object("recording", func() { w.null("url", "status", "recording_status") })
	w.reference("call", "activities/calls", w.draw(15)%100)
	w.reference("called_person", "people", 1+w.draw(16)%100)
	w.reference("user", "users", 1+w.draw(17)%10)
}

func (w *writer) crmActivity() {
	w.text("subject", "Call: ", word(outcomes, w.draw(10)))
	w.text("description", word(moods, w.shift(11)), " ", w.revision())
	w.text("crm_id", "00T", w.digits(12, 12))
	w.text("activity_type", word([]string{"call", "email"}, w.draw(13)))
	w.null("error")
	w.reference("person", "people", 1+w.draw(14)%100)
	w.reference("user", "users", 1+w.draw(15)%10)
}

func (w *writer) template() {
	w.text("title", word(titles, w.draw(10)), " ", w.revision())
	w.text("subject", "A word about ", word(industries, w.shift(11)))
	w.text("body", "\\u003cp\\u003eHello {{first_name}}\\u003c\\/p\\u003e")
	w.null("archived_at")
	w.time("last_used_at", w.contacted())
	w.truth("shared", w.shift(12)%2 == 0)
	w.truth("open_tracking_enabled", w.draw(13)%2 == 0)
	w.list("tags", word(moods, w.shift(14)))
	w.counters("sent_emails", "views", "clicks", "replies", "unique_devices", "bounces")
	w.reference("template_owner", "users", 1+w.draw(15)%10)
}

func (w *writer) success() {
	w.time("succeeded_at", w.created)
	w.time("success_window_started_at", w.created-int64(w.m.content)*day)
	w.counters("total_emails", "total_calls", "total_other_touches")
	w.reference("user", "users", 1+w.draw(10)%10)
	w.reference("person", "people", 1+w.draw(11)%100)
	w.reference("person_stage", "person_stages", 1+w.shift(12)%6)
}

func (w *writer) cadenceStep() {
	w.truth("disabled", w.shift(10)%8 == 0)
	w.truth("multitouch_enabled", w.draw(11)%2 == 0)
	w.text("name", "Step ", w.digits(12, 1), " ", w.revision())
	w.text("display_name", "Day ", w.digits(13, 1), ": Step")
	w.text("type", word([]string{"phone", "email", "other"}, w.draw(14)))
	w.number("day", int64(1+w.draw(15)%20))
	w.number("step_number", int64(1+w.draw(16)%5))
	w.reference("cadence", "cadences", 1+w.draw(17)%12)
	w.null("details")
}

func (w *writer) tag() { w.text("name", word(industries, w.draw(10)), "-", w.revision()) }

func (w *writer) group() {
	w.text("name", word(cities, w.draw(10)), " ", w.revision())
	w.null("parent_id")
	w.list("accessible_groups")
}

func (w *writer) customField() {
	w.text("name", word(industries, w.draw(10)), " ", w.revision())
	w.text("field_type", word([]string{"person", "company", "opportunity"}, w.draw(11)))
	w.text("value_type", word([]string{"text", "date"}, w.draw(12)))
}

func (w *writer) imported() {
	w.text("name", word(companies, w.draw(10)), ".csv ", w.revision())
	w.number("current_people_count", int64(w.shift(11)%1000))
	w.number("imported_people_count", int64(w.draw(12)%1000))
	w.reference("user", "users", 1+w.draw(13)%10)
}

func (w *writer) crmUser() {
	w.text("crm_id", "005", w.digits(10, 12))
	w.text("revision", w.revision())
	w.reference("user", "users", 1+w.draw(11)%10)
}
