import{a}from"./chunk-SPUJIOVX.js";import"./chunk-G6NDKCOD.js";import"./chunk-U6GLU5E3.js";import"./chunk-IYWUY3VA.js";export{a as initialize};
