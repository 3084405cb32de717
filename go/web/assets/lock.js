// Shows on Atlantis's page of a lock why the lock was not discarded. Atlantis's own script shows nothing then.
"use strict";

$(document).ajaxError((event, answer) => {
  $("#refusal").remove();
  $("<p>", { id: "refusal", text: answer.responseText || "Atlantis does not answer." }).appendTo("#discardMessageModal .modal-body");
});
